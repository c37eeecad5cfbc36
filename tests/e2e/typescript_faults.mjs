// The TypeScript client against a server that fails as told: node typescript_faults.mjs dist/src/index.js
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";

const { Posthouse, PosthouseError } = await import(pathToFileURL(process.argv[2]));

let seen = [];
// What the next requests meet, one each; then they are answered.
let faults = [];
const server = createServer(async (request, response) => {
  let body = "";
  for await (const piece of request) body += piece;
  const { method, url, headers } = request;
  seen.push({ method, url, body, key: headers["idempotency-key"], after: headers["last-event-id"] });
  const fault = faults.shift();
  if (fault === "hang up") return request.socket.destroy();
  if (typeof fault === "number") {
    response.writeHead(fault, { "Content-Type": "application/problem+json", "Retry-After": "0" });
    return response.end(JSON.stringify({ reason: "TOLD", detail: `as told: ${fault}`, errors: [] }));
  }
  if (!url.startsWith("/api/v1/events")) {
    response.writeHead(200, { "Content-Type": "application/json" });
    return response.end(JSON.stringify({ results: [] }));
  }
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  if (fault) return response.end(fault);
  if (fault === "") return response.write(": silent from here on\n\n");
  response.write('id: 9-9-9\nevent: sent\ndata: {"type":"sent"}\n\n');
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const client = new Posthouse({ url: `http://127.0.0.1:${server.address().port}`, attempts: 3 });

async function meeting(told, act) {
  [seen, faults] = [[], [...told]];
  const error = await act().then(
    () => undefined,
    (error) => error,
  );
  return { seen, error };
}

const message = { from: "+15551234567", to: "+15559876543", body: "Hello" };

// A send has a key, and comes through with the same one each time.
let met = await meeting(["hang up", 503], () => client.send(message));
assert.equal(met.error, undefined);
assert.equal(met.seen.length, 3);
assert.equal(new Set(met.seen.map(({ key }) => key)).size, 1);

// So has each of many, one whose key is undefined too.
met = await meeting([502], () => client.sendMany([{ ...message, idempotency_key: undefined }, message]));
const keys = met.seen.map(({ body }) => JSON.parse(body).messages.map((each) => each.idempotency_key));
assert.equal(keys.length, 2);
assert.deepEqual(keys[0], keys[1]);
assert.ok(keys[0].every((key) => typeof key === "string"));

// What would do something a second time is not repeated, unless nothing was done.
for (const path of ["/api/v1/messages/send", "/sms/send", "/api/v1/subscriptions", "/api/v1/subscriptions/x/rotate"]) {
  met = await meeting(["hang up"], () => client.api.POST(path, { body: message }));
  assert.ok(met.error);
  assert.equal(met.seen.length, 1, path);
  met = await meeting([503], () => client.api.POST(path, { body: message }));
  assert.equal(met.seen.length, 1, path);
  met = await meeting([429], () => client.api.POST(path, { body: message }));
  assert.equal(met.seen.length, 2, path);
}
for (const [method, path] of [["POST", "/api/v1/conversations/search"], ["GET", "/api/v1/messages"]]) {
  met = await meeting(["hang up", 503], () => client.api[method](path, {}));
  assert.equal(met.error, undefined);
  assert.equal(met.seen.length, 3, path);
}

// Whoever gives a request up is heard, and a refusal says when to come back.
met = await meeting(["hang up", "hang up"], () =>
  client.api.GET("/api/v1/messages", { signal: AbortSignal.abort() }),
);
assert.equal(met.error?.name, "AbortError");
assert.equal(met.seen.length, 0);
met = await meeting([400], () => client.get("x"));
assert.ok(met.error instanceof PosthouseError);
assert.deepEqual([met.error.status, met.error.reason, met.error.retryAfter], [400, "TOLD", 0]);

// A watch asks for what it was told, and goes on where it was: after a break, an end, and silence.
const types = [];
const told = [503, 'id: 1-1-1\n\nevent: stream.reconnect\ndata: {"detail":"stopping"}\n\n', ""];
met = await meeting(told, async () => {
  for await (const { type } of client.watch({ participant: undefined, conversation_id: "c" }, { silence: 300 })) {
    types.push(type);
    return;
  }
});
assert.equal(met.error, undefined);
assert.deepEqual(types, ["sent"]);
assert.deepEqual(new Set(met.seen.map(({ url }) => url)), new Set(["/api/v1/events?conversation_id=c"]));
assert.deepEqual(met.seen.map(({ after }) => after), [undefined, undefined, "1-1-1", "1-1-1"]);

server.closeAllConnections();
server.close();
console.log("all as it should be");
