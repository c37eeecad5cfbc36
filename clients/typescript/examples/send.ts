// Send one message, watch it, and wait for its delivery:
//   node dist/examples/send.js http://127.0.0.1:8000 +15551234567 +15559876543 Hello
import { Posthouse, PosthouseError } from "../src/index.js";

const [url = "http://127.0.0.1:8000", from = "+15551234567", to = "+15559876543", ...words] = process.argv.slice(2);
const apiKey = process.env["POSTHOUSE_API_KEY"];
const posthouse = new Posthouse({ url, timeout: 60_000, ...(apiKey ? { apiKey } : {}) });

const stop = new AbortController();
let begun!: () => void;
const ready = new Promise<void>((resolve) => (begun = resolve));
const watching = (async () => {
  for await (const { data } of posthouse.watch({ participant: to }, { signal: stop.signal, ready: begun })) {
    console.log(data.type, data.message_id);
    if (data.type === "delivered") return;
  }
})();
await Promise.race([ready, watching]);

const sent = await posthouse.send({ from, to, body: words.join(" ") || "Hello" });
console.log(`${sent.status}: ${sent.id}`);
const message = await posthouse.waitUntilDelivered(sent.id);
await watching;
console.log(`delivered by ${message.provider}`);

const results = await posthouse.sendMany([{ from, to, body: "One" }, { from, to: "nobody", body: "Two" }]);
console.log(results.map((result) => result.status).join(" "));

try {
  await posthouse.send({ from, to: "nobody", body: "Hello" });
} catch (error) {
  if (!(error instanceof PosthouseError)) throw error;
  console.log(`${error.status} ${error.reason}: ${error.errors.map(({ field }) => field).join(", ")}`);
}

const { data } = await posthouse.api.GET("/api/v1/conversations", { params: { query: { participant: to } } });
console.log(`${data?.conversations.length} conversation`);
