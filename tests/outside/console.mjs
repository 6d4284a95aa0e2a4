// A real browser at the console: `node console.mjs CONSOLE EMAIL PASSWORD CHROMIUM`. Signs in, loads a small file with rejects,
// watches it, reads the rejects, signs out. Prints what it saw; exit code 1 at what is missing, and at anything that a page says
// against itself: errors of scripts, refusals by the content security policy, markup that runs.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { chromium } from "playwright-core";

const [home, email, password, executablePath] = process.argv.slice(2);
const EVIL = "<img src=x onerror=alert(1)>";
const file = {
  name: `${EVIL}.csv`,
  mimeType: "text/csv",
  buffer: Buffer.from(`name,price\nfine,1\n${EVIL},a lot\nminus,-1\n`),
};

const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"];
const browser = await chromium.launch({ executablePath, args: [...args, "--disable-component-update", "--disable-sync"] });
const complaints = [];
const open = async (options) => {
  const page = await (await browser.newContext(options)).newPage();
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (fault) => complaints.push(String(fault)));
  page.on("console", (said) => said.type() === "error" && complaints.push(said.text()));
  page.on("dialog", (dialog) => (complaints.push(`dialog: ${dialog.message()}`), dialog.dismiss()));
  return page;
};
const signIn = async (page) => {
  await page.goto(home);
  await page.fill("[name=email]", email);
  await page.fill("[name=password]", password);
  await page.click("button.main");
  await page.waitForURL("**/console");
};

try {
  const page = await open({ viewport: { width: 1280, height: 900 } });
  const list = await open({ viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await signIn(page);
  await signIn(list);

  await page.click("header >> text=Load a file");
  await page.selectOption("[name=type]", "LoadProducts");
  await page.setInputFiles("#file", file);
  await page.click("#load button.main");
  await page.waitForURL("**/console/jobs/*");
  const id = page.url().split("/").pop();
  // Without being asked: both pages are live.
  await page.waitForSelector("#p-state .state.partial");
  await list.waitForSelector(`#job-${id} .state.partial`);
  assert.equal(await list.innerText(`#job-${id} .file`), file.name);
  const wide = await list.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `the list is ${wide} px wide on a screen of 390`);
  assert.match(await page.title(), /Partial/);

  const groups = await page.locator("#p-groups tbody tr").allInnerTexts();
  assert.equal(groups.length, 2, groups.join("\n"));
  await page.click("text=Browse");
  const faults = await page.locator("table.faults tbody tr").allInnerTexts();
  assert.equal(faults.length, 2, faults.join("\n"));
  assert.match(faults[0], /^2\tprice\tTYPE\t.*a lot/);
  assert.ok(faults[0].includes(EVIL));
  assert.match(faults[1], /^3\tprice\tRANGE\t.*-1/);
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(".downloads >> text=CSV")]);
  const lines = readFileSync(await download.path(), "utf8").trim().split("\n");
  assert.equal(lines.length, 3, lines.join("\n"));

  await page.click("text=Sign out");
  await page.waitForURL("**/console/sign-in");
  await page.goto(`${home}/jobs/${id}`);
  assert.match(page.url(), /sign-in\?next=/);
  assert.deepEqual(complaints, []);
  console.log(`signed in, loaded, watched, read ${faults.length} rejects of ${id}, signed out`);
} finally {
  await browser.close();
}
