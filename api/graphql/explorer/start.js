"use strict";
// GraphiQL with a fetcher of our own: subscriptions come as server-sent events, over the same address.
const headersOf = (options) => ({
  "content-type": "application/json",
  accept: "application/graphql-response+json, application/json, text/event-stream",
  ...(options && options.headers),
});

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      waiting += value;
      for (let end; (end = waiting.indexOf("\n\n")) >= 0; waiting = waiting.slice(end + 2)) {
        const lines = waiting.slice(0, end).split("\n");
        if (lines.includes("event: complete")) return;
        const data = lines.filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data) yield JSON.parse(data);
      }
    }
  } finally {
    reader.cancel();
  }
}

const isSubscription = (request, options) =>
  ((options && options.documentAST && options.documentAST.definitions) || []).some(
    (node) =>
      node.operation === "subscription" && (!request.operationName || node.name?.value === request.operationName),
  );

async function fetcher(request, options) {
  const headers = headersOf(options);
  if (!isSubscription(request, options)) headers.accept = "application/graphql-response+json, application/json";
  const response = await fetch(location.pathname, { method: "POST", headers, body: JSON.stringify(request) });
  return (response.headers.get("content-type") || "").startsWith("text/event-stream") ? events(response) : response.json();
}

// What a newcomer sees first. One file serves every service; what a service lacks is underlined in the editor.
const welcome = `# 1. At the auth service's /graphql:
#
#   mutation {
#     login(input: { email: "…", password: "…" }) { token }
#   }
#
# 2. The token goes into Headers, below.
# 3. At the jobs service's /graphql:

query Latest {
  jobsConnection(first: 10) {
    edges {
      node { id name state }
    }
  }
}

mutation Load {
  jobSubmit(input: {
    name: "LoadProducts"
    idempotencyKey: "my first load"
    source: { rows: [{ name: "Chair", price: 12.5 }] }
  }) {
    job { id state }
    userErrors { code message }
  }
}
`;

ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, {
    defaultQuery: welcome,
    fetcher,
    defaultEditorToolsVisibility: true,
    defaultHeaders: '{"Authorization": "Bearer …"}',
    shouldPersistHeaders: false,
  }),
);
