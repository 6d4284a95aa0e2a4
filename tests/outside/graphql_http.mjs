// graphql-http's own audit of a GraphQL service: `node graphql_http.mjs URL`. Prints what failed; exit code 1 unless all is ok.
import { serverAudits } from "graphql-http";

const url = process.argv[2];
const audits = serverAudits({ url, fetchFn: fetch });
const failed = [];
for (const audit of audits) {
  const result = await audit.fn();
  if (result.status !== "ok") failed.push(`${audit.id} ${result.status}: ${audit.name} (${result.reason})`);
}
console.log(`graphql-http: ${audits.length - failed.length} of ${audits.length} ok`);
for (const line of failed) console.log(`  ${line}`);
process.exit(failed.length || audits.length < 61 ? 1 : 0);
