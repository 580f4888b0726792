// Runs the cases that it reads on standard input with the official SDK for Node and prints one JSON line for each.
// A case: {name, base_url, key, body, headers}; body.stream chooses streaming.
import { createRequire } from 'node:module';
import { text } from 'node:stream/consumers';

// Resolved from the folder that the test's set-up installed it in.
const sdk = createRequire(process.env.SDK_ROOT + '/')('openai');
const OpenAI = sdk.default;

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

async function absent(ask) {
  try {
    await ask();
  } catch (e) {
    return e.constructor.name;
  }
  return 'there';
}

async function all(pages) {
  const out = [];
  for await (const one of pages) out.push(one);
  return out;
}

const told = (steps) => steps.map((s) => ({ true: 'True', false: 'False' })[s] ?? s).join(' ');

// A response that runs in the background, looked at, listed, cancelled and deleted.
async function kept(client, body) {
  const begun = await client.responses.create({ ...body, background: true });
  const now = await client.responses.retrieve(begun.id);
  const items = await all(client.responses.inputItems.list(begun.id));
  const steps = [begun.status, now.status, now.output_text.includes('charged twice'), items[0].content[0].text, !JSON.stringify(items).includes('charged')];
  await client.responses.cancel(begun.id);
  await client.responses.delete(begun.id);
  steps.push('cancelled', await absent(() => client.responses.retrieve(begun.id)));
  return { id: begun.id, text: told(steps) };
}

// A conversation with a first item, a response in it, and what is in it then.
async function converse(client, body) {
  const { id } = await client.conversations.create({ items: [{ type: 'message', role: 'user', content: 'my name is Ada' }], ...body });
  const answer = await client.responses.create({ ...body, input: 'hello', conversation: id });
  const items = await all(client.conversations.items.list(id, { order: 'asc' }));
  const first = items[0].content;
  const steps = [id.slice(0, 4), answer.output_text.includes('last user message: hello'), 'charged twice', typeof first === 'string' ? first : first[0].text];
  steps.push(JSON.stringify(items[1]).includes('hello'));
  await client.conversations.items.delete(items[1].id, { conversation_id: id });
  steps.push((await all(client.conversations.items.list(id))).length === items.length - 1);
  await client.conversations.delete(id);
  steps.push(await absent(() => client.conversations.retrieve(id)));
  return { id, text: told(steps) };
}

// A file that is read and deleted, and one whose requests are answered in a batch.
async function batched(client, model) {
  const text = async (id) => (await client.files.content(id)).text();
  const file = await client.files.create({ file: await sdk.toFile(Buffer.from('hello'), 'a.txt'), purpose: 'user_data', model });
  const steps = [(await client.files.retrieve(file.id)).filename, await text(file.id), (await client.files.delete(file.id)).deleted];
  steps.push(await absent(() => client.files.retrieve(file.id)));
  const ask = { model, messages: [{ role: 'user', content: 'hello' }] };
  const line = JSON.stringify({ custom_id: 'one', method: 'POST', url: '/v1/chat/completions', body: ask });
  const lines = await client.files.create({ file: await sdk.toFile(Buffer.from(line), 'a.jsonl'), purpose: 'batch', expires_after: { anchor: 'created_at', seconds: 3600 } });
  const batch = await client.batches.create({ input_file_id: lines.id, endpoint: '/v1/chat/completions', completion_window: '24h', metadata: { k: 'v' } });
  const now = await client.batches.retrieve(batch.id);
  steps.push(now.status, now.metadata.k, now.request_counts.completed, (await client.batches.cancel(batch.id)).id === batch.id);
  const answered = JSON.parse(await text(now.output_file_id));
  steps.push(answered.custom_id, answered.response.body.choices[0].message.content.includes('hello'));
  steps.push(await absent(() => client.batches.retrieve('batch_none')));
  return { id: batch.id, text: told(steps) };
}

// One call of each endpoint that runs no prompt.
async function passed(client, model) {
  // The SDK asks for base64 by itself and turns it into numbers.
  const many = await client.embeddings.create({ model, input: ['a', 'b'], dimensions: 8 });
  const one = await client.embeddings.create({ model, input: 'a', dimensions: 8, encoding_format: 'float' });
  const same = many.data[0].embedding.every((x, i) => Math.abs(x - one.data[0].embedding[i]) < 1e-6);
  const steps = [many.data.length, many.data[0].embedding.length, same, many.usage.prompt_tokens];
  const whole = await client.completions.create({ model, prompt: 'once upon' });
  let parts = '';
  for await (const part of await client.completions.create({ model, prompt: 'once upon', stream: true })) parts += part.choices[0].text;
  steps.push(whole.choices[0].text.slice(-9), parts === whole.choices[0].text);
  steps.push((await client.moderations.create({ model, input: 'x' })).results[0].flagged);
  const image = () => sdk.toFile(Buffer.from([0x89, 0x50, 0x4e, 0x47]), 'a.png', { type: 'image/png' });
  const drawn = await client.images.generate({ model, prompt: 'a cat' });
  const edited = await client.images.edit({ model, image: await image(), prompt: 'a hat' });
  const varied = await client.images.createVariation({ model, image: await image() });
  for (const i of [drawn, edited, varied]) steps.push(Buffer.from(i.data[0].b64_json, 'base64').toString('latin1').slice(1, 4));
  const sound = Buffer.from(await (await client.audio.speech.create({ model, voice: 'alloy', input: 'hi', response_format: 'wav' })).arrayBuffer());
  const file = () => sdk.toFile(sound, 'hi.wav');
  const heard = await client.audio.transcriptions.create({ model, file: await file(), timestamp_granularities: ['word', 'segment'] });
  const plain = await client.audio.translations.create({ model, file: await file(), response_format: 'text' });
  steps.push(sound.toString('latin1').slice(0, 4), heard.text, plain.trim() === heard.text);
  return { id: 'none', text: told(steps), usage: many.usage.total_tokens };
}

async function run({ api, base_url, key, body, headers }) {
  const client = new OpenAI({ apiKey: key, baseURL: base_url, maxRetries: 0, defaultHeaders: headers ?? {} });
  if (api === 'responses') return respond(client, body);
  if (api === 'kept') return kept(client, body);
  if (api === 'conversation') return converse(client, body);
  if (api === 'batch') return batched(client, body.model);
  if (api === 'passed') return passed(client, body.model);
  if (api === 'embeddings') await client.embeddings.create(body);
  if (api === 'transcriptions') await client.audio.transcriptions.create({ file: await sdk.toFile(Buffer.from('RIFF'), 'hi.wav'), ...body });
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
