// A client of Posthouse over HTTP: paths, bodies and answers are typed by its OpenAPI document (schema.ts is generated
// from it: npm run generate). The layer here adds what types cannot: idempotency keys, retries, errors, events.
import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./schema.js";

export type { components, paths } from "./schema.js";
export type Problem = components["schemas"]["Problem"];
export type Accepted = components["schemas"]["Accepted"];
export type Message = components["schemas"]["Message"];
export type SendRequest = components["schemas"]["SendRequest"];
export type BatchItem = components["schemas"]["BatchItem"];
export type BatchResult = components["schemas"]["BatchResult"];
export type Event = components["schemas"]["Event"];

export interface Options {
  /** Address of the gateway, e.g. http://127.0.0.1:8000. */
  url: string;
  /** An API key or a JWT, for servers that ask for one. */
  apiKey?: string;
  /** How often a request is made at most; 5 by default. */
  attempts?: number;
  /** Milliseconds one attempt may take; 10,000 by default. */
  timeout?: number;
}

/** A refusal (RFC 9457). `reason` is for programs, the message for people; `errors` names the fields at fault. */
export class PosthouseError extends Error {
  override readonly name = "PosthouseError";
  readonly status: number;
  readonly reason: string;
  readonly errors: Problem["errors"];
  /** Of the server's logs. */
  readonly requestId: string;
  /** Milliseconds after which to try again, as the server wishes; 0 where it has none. */
  readonly retryAfter: number;

  constructor(status: number, problem: Partial<Problem>, retryAfter = 0) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.reason = problem.reason ?? "UNKNOWN";
    this.errors = problem.errors ?? [];
    this.requestId = problem.request_id ?? "";
    this.retryAfter = retryAfter;
  }
}

/** The message has come to an end that is not delivery. */
export class NotDeliveredError extends Error {
  override readonly name = "NotDeliveredError";
  constructor(readonly delivered: Message) {
    super(`message ${delivered.id} is ${delivered.status}`);
  }
}

// Statuses that a repeat may mend: another request with the key is under way, too much, not now.
const PASSING = new Set([429, 502, 503, 504]);
const LONGEST_PAUSE = 10_000;
// Requests by POST that do no more when they come twice. Others are repeated with an idempotency key only, or when they
// were refused before anything was done.
const REPEATABLE = /\/(search|preview|receive|read|archive|unarchive)$/;
const NOT_BEGUN = 429;
const DELIVERED = new Set(["delivered", "read"]);
const ENDED = new Set(["failed", "undelivered", "cancelled"]);
// Entries that say why a stream ends; it is taken up again.
const ENDINGS = new Set(["stream.reconnect", "stream.overflow"]);

export class Posthouse {
  /** Every route, typed: await posthouse.api.GET("/api/v1/messages", { params: { query: { page_size: 20 } } }). */
  readonly api: Client<paths>;
  private readonly url: string;
  private readonly headers: Record<string, string>;
  private readonly attempts: number;
  private readonly timeout: number;

  constructor(options: Options) {
    this.url = options.url.replace(/\/+$/, "");
    this.attempts = options.attempts ?? 5;
    this.timeout = options.timeout ?? 10_000;
    this.headers = options.apiKey ? { Authorization: `Bearer ${options.apiKey}` } : {};
    this.api = createClient<paths>({ baseUrl: this.url, headers: this.headers, fetch: (request) => this.fetch(request) });
  }

  /** Send one message; it is committed when this returns. Without a key one is made up: retries never send twice. */
  async send(message: SendRequest, idempotencyKey: string = crypto.randomUUID()): Promise<Accepted> {
    const { data, error, response } = await this.api.POST("/api/v1/messages/send", {
      params: { header: { "Idempotency-Key": idempotencyKey } },
      body: message,
    });
    return answered(data, error, response);
  }

  /** Send up to 1,000; what became of each, in order. */
  async sendMany(messages: BatchItem[]): Promise<BatchResult[]> {
    const keyed = messages.map((each) => ({ ...each, idempotency_key: each.idempotency_key ?? crypto.randomUUID() }));
    const { data, error, response } = await this.api.POST("/api/v1/messages/batch", {
      body: { messages: keyed },
      fetch: (request) => this.fetch(request, true),
    });
    return answered(data, error, response).results;
  }

  /** A message as it is now. */
  async get(id: string): Promise<Message> {
    const { data, error, response } = await this.api.GET("/api/v1/messages/{message_id}", {
      params: { path: { message_id: id } },
    });
    return answered(data, error, response);
  }

  /** The message once it is delivered or read; throws when it comes to another end or time (ms) is up. */
  async waitUntilDelivered(id: string, timeout = 60_000): Promise<Message> {
    const deadline = Date.now() + timeout;
    for (let pause = 50; ; pause = Math.min(1000, pause * 1.5)) {
      const message = await this.get(id);
      if (DELIVERED.has(message.status)) return message;
      if (ENDED.has(message.status)) throw new NotDeliveredError(message);
      if (Date.now() >= deadline) throw new Error(`message ${id} was not delivered in time: it is ${message.status}`);
      await sleep(Math.min(pause, deadline - Date.now()));
    }
  }

  /**
   * Events as they happen. `ready` is called once the stream has begun: what happens from then on is seen. A stream that
   * breaks is taken up at the last event, and so is one that gives no sign of life for `silence` milliseconds, a minute
   * by default; `stream.gap` events say when some may be missing.
   */
  async *watch(
    filter: { participant?: string | undefined; conversation_id?: string | undefined } = {},
    options: { after?: string; signal?: AbortSignal; ready?: () => void; silence?: number } = {},
  ): AsyncGenerator<{ id: string; type: string; data: Event }> {
    const query = new URLSearchParams(Object.entries(filter).filter((each): each is [string, string] => !!each[1]));
    let after = options.after;
    for (let failures = 0; !options.signal?.aborted; ) {
      let wish = 0;
      const watchdog = new AbortController();
      const signal = options.signal ? AbortSignal.any([options.signal, watchdog.signal]) : watchdog.signal;
      let timer = setTimeout(() => watchdog.abort(), this.timeout);
      try {
        const response = await fetch(`${this.url}/api/v1/events?${query}`, {
          headers: { ...this.headers, ...(after ? { "Last-Event-ID": after } : {}) },
          signal,
        });
        if (!response.ok || !response.body) throw await refused(response);
        options.ready?.();
        const alive = () => {
          clearTimeout(timer);
          timer = setTimeout(() => watchdog.abort(), options.silence ?? 60_000);
        };
        for await (const entry of entries(response.body, alive)) {
          failures = 0;
          if (entry.id) after = entry.id;
          if (!entry.data || ENDINGS.has(entry.event)) continue;
          clearTimeout(timer); // whoever takes the entry may take their time
          yield { id: entry.id, type: entry.event, data: JSON.parse(entry.data) as Event };
        }
      } catch (error) {
        if (options.signal?.aborted) return;
        if (error instanceof PosthouseError) {
          wish = error.retryAfter;
          if (!PASSING.has(error.status) || wish > LONGEST_PAUSE) throw error;
        }
        if (++failures >= this.attempts) throw error;
      } finally {
        clearTimeout(timer);
      }
      await sleep(Math.max(wish, pauseAfter(failures)));
    }
  }

  /** Make a request, again and again where a repeat may mend it and can do no harm. */
  private async fetch(request: Request, repeatable = mayRepeat(request)): Promise<Response> {
    for (let attempt = 1; ; attempt++) {
      const last = attempt >= this.attempts;
      try {
        const signal = AbortSignal.any([request.signal, AbortSignal.timeout(this.timeout)]);
        const response = await fetch(request.clone(), { signal });
        const wish = retryAfter(response);
        const again = repeatable ? PASSING.has(response.status) : response.status === NOT_BEGUN;
        if (last || wish > LONGEST_PAUSE || !again) return response;
        await response.body?.cancel();
        await sleep(Math.max(wish, pauseAfter(attempt)));
      } catch (error) {
        if (last || !repeatable || request.signal.aborted) throw error;
        await sleep(pauseAfter(attempt));
      }
    }
  }
}

function mayRepeat(request: Request): boolean {
  if (request.method !== "POST" || request.headers.has("Idempotency-Key")) return true;
  return REPEATABLE.test(new URL(request.url).pathname);
}

function retryAfter(response: Response): number {
  return 1000 * (Number(response.headers.get("Retry-After")) || 0);
}

async function refused(response: Response): Promise<PosthouseError> {
  return new PosthouseError(response.status, await problem(response), retryAfter(response));
}

function answered<T>(data: T | undefined, error: unknown, response: Response): T {
  if (data === undefined) {
    throw new PosthouseError(response.status, (error ?? {}) as Partial<Problem>, retryAfter(response));
  }
  return data;
}

async function problem(response: Response): Promise<Partial<Problem>> {
  return (await response.json().catch(() => ({}))) as Partial<Problem>;
}

function pauseAfter(failures: number): number {
  return Math.min(LONGEST_PAUSE, 100 * 2 ** Math.max(0, failures - 1)) * (0.5 + Math.random() / 2);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The entries of a Server-Sent Events stream; `alive` is called before each piece of it is waited for. */
async function* entries(
  body: ReadableStream<Uint8Array>,
  alive: () => void,
): AsyncGenerator<{ id: string; event: string; data: string }> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (let buffer = ""; ; ) {
      alive();
      const { done, value } = await reader.read();
      if (done) return;
      buffer += decoder.decode(value, { stream: true });
      const parts = buffer.split(/\r?\n\r?\n/);
      buffer = parts.pop() ?? "";
      for (const part of parts) yield parse(part);
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

function parse(part: string): { id: string; event: string; data: string } {
  const fields: Record<string, string> = {};
  for (const line of part.split(/\r?\n/)) {
    const found = /^(id|event|data): ?(.*)$/.exec(line);
    if (found) fields[found[1]!] = fields[found[1]!] === undefined ? found[2]! : `${fields[found[1]!]}\n${found[2]!}`;
  }
  return { id: fields["id"] ?? "", event: fields["event"] ?? "message", data: fields["data"] ?? "" };
}
