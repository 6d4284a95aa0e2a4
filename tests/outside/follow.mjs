// The reference clients of both subscription protocols follow a job to its end, and come back after it:
// `node follow.mjs URL TOKEN JOB`. Prints what they saw; exit code 1 when the final state was missed.
import { createClient as createSse } from "graphql-sse";
import { createClient as createWs } from "graphql-ws";
import WebSocket from "ws";

const [url, token, id] = process.argv.slice(2);
const query = "subscription($id: ID!, $after: Long) { jobProgress(id: $id, afterSeq: $after) { state progress { seq } } }";
const clients = {
  "graphql-ws": createWs({
    url: url.replace("http", "ws"),
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${token}` },
    retryAttempts: 0,
  }),
  "graphql-sse": createSse({ url, headers: { authorization: `Bearer ${token}` }, retryAttempts: 0 }),
};

const follow = (client, after) =>
  new Promise((resolve, reject) => {
    const seen = [];
    client.subscribe(
      { query, variables: { id, after } },
      {
        next: (result) => (result.errors ? reject(result.errors) : seen.push(result.data.jobProgress)),
        error: reject,
        complete: () => resolve(seen),
      },
    );
  });

let missed = false;
for (const [name, client] of Object.entries(clients)) {
  const first = await follow(client, null);
  const last = first.at(-1);
  const again = await follow(client, last?.progress.seq);
  const states = [last?.state, again.at(-1)?.state];
  console.log(`${name}: ${first.length} events, then ${again.length}; ended as ${states.join(", ")}`);
  missed ||= states.some((state) => state !== "SUCCEEDED") || again.length !== 1;
  client.dispose();
}
process.exit(missed ? 1 : 0);
