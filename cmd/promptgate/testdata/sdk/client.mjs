// Runs the cases that it reads on standard input with the official SDK for Node and prints one JSON line for each.
// A case: {name, base_url, key, body, headers}; body.stream chooses streaming.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

// Resolved from the folder that the test's set-up installed it in.
const OpenAI = createRequire(process.env.SDK_ROOT + '/')('openai').default;

async function respond(client, body) {
  const out = { text: '', chunks: 0 };
  const answer = await client.responses.create(body);
  if (!body.stream) return { ...out, id: answer.id, model: answer.model, text: answer.output_text, usage: answer.usage.total_tokens };
  for await (const event of answer) {
    out.chunks++;
    if (event.type === 'response.output_text.delta') out.text += event.delta;
    if (event.type === 'response.completed') {
      out.id = event.response.id;
      out.model = event.response.model;
    }
  }
  return out;
}

async function run({ api, base_url, key, body, headers }) {
  const client = new OpenAI({ apiKey: key, baseURL: base_url, maxRetries: 0, defaultHeaders: headers ?? {} });
  if (api === 'responses') return respond(client, body);
  const out = { text: '', chunks: 0 };
  if (body.stream) {
    for await (const chunk of await client.chat.completions.create(body)) {
      out.chunks++;
      out.id = chunk.id;
      out.model = chunk.model;
      out.text += chunk.choices[0]?.delta?.content ?? '';
      if (chunk.usage) out.usage = chunk.usage.total_tokens;
    }
    return out;
  }
  const answer = await client.chat.completions.create(body);
  return { ...out, id: answer.id, model: answer.model, text: answer.choices[0].message.content, usage: answer.usage?.total_tokens };
}

for (const c of JSON.parse(await text(process.stdin))) {
  let out;
  try {
    out = await run(c);
  } catch (e) {
    out = { error: e.constructor.name, status: e.status, code: e.code, param: e.param, message: e.message };
  }
  console.log(JSON.stringify({ name: c.name, ...out }));
}
