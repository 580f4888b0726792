// Runs the cases that it reads on standard input with Anthropic's SDK for Node and prints one JSON line for each.
// A case: {name, base_url, key, body, op, retries}; body.stream chooses streaming.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

// Resolved from the folder that the test's set-up installed it in.
const Anthropic = createRequire(process.env.SDK_ROOT + '/')('@anthropic-ai/sdk').default;

function told(message) {
  const say = (b) => b.text ?? b.thinking ?? JSON.stringify(b.input ?? '');
  return {
    id: message.id,
    model: message.model,
    text: message.content.map(say).join(''),
    blocks: message.content.map((b) => b.type),
    signature: message.content.map((b) => b.signature ?? '').join(''),
    usage: message.usage.input_tokens + message.usage.output_tokens,
    stop: message.stop_reason,
  };
}

async function run({ base_url, key, body, op, retries }) {
  const client = new Anthropic({ apiKey: key, baseURL: base_url, maxRetries: retries ?? 0 });
  if (op === 'models') {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { text: ids.join(' '), id: (await client.models.retrieve(ids[0])).id };
  }
  if (op === 'count') return { usage: (await client.messages.countTokens(body)).input_tokens };
  if (op === 'helper') {
    const stream = client.messages.stream(body);
    let streamed = '';
    stream.on('text', (piece) => (streamed += piece));
    return { ...told(await stream.finalMessage()), streamed };
  }
  const answer = await client.messages.create(body);
  if (!body.stream) return told(answer);
  const out = { text: '', chunks: 0 };
  for await (const event of answer) {
    out.chunks++;
    if (event.type === 'message_start') Object.assign(out, { id: event.message.id, model: event.message.model });
    if (event.type === 'content_block_delta' && event.delta.type === 'text_delta') out.text += event.delta.text;
    if (event.type === 'message_delta') Object.assign(out, { usage: event.usage.output_tokens, stop: event.delta.stop_reason });
    if (op === 'cancel' && event.type === 'content_block_delta') return { id: 'cancelled' }; // leaving the loop aborts the request
  }
  return out;
}

for (const c of JSON.parse(await text(process.stdin))) {
  let out;
  try {
    out = await run(c);
  } catch (e) {
    out = { error: e.constructor.name, status: e.status, code: e.errorCode, kind: e.type, message: e.apiMessage ?? e.message, request: e.requestID };
  }
  console.log(JSON.stringify({ name: c.name, ...out }));
}
