// Runs the cases that it reads on standard input with Vercel's AI SDK and prints one JSON line for each.
// A case: {name, op, api, model, base_url, key, headers}; api says which of the SDK's models is used.
import { text } from 'node:stream/consumers';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, generateText, isStepCount, Output, RetryError, streamText, tool } from 'ai';
import { z } from 'zod';

function modelOf({ api, model, base_url, key, headers }) {
  const settings = { baseURL: base_url, apiKey: key, headers };
  if (api === 'messages') return createAnthropic(settings)(model);
  const openai = createOpenAI(settings);
  return api === 'responses' ? openai.responses(model) : openai.chat(model);
}

async function run(c) {
  const ran = [];
  const args = { model: modelOf(c), prompt: 'How warm is it?', maxRetries: c.retries ?? 2 };
  if (c.op.startsWith('tools')) {
    args.stopWhen = isStepCount(3);
    args.tools = {
      get_weather: tool({
        description: 'The weather in a city.',
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => {
          ran.push(city);
          return `7 degrees in ${city}`;
        },
      }),
    };
  }
  if (c.op === 'object') args.output = Output.object({ schema: z.object({ city: z.string(), degrees: z.number() }) });
  if (c.op === 'again') {
    const { prompt: content, ...rest } = args;
    const asked = { role: 'user', content };
    const first = await generateText({ ...rest, messages: [asked] });
    const second = await generateText({ ...rest, messages: [asked, ...first.response.messages, asked] });
    return { text: second.text };
  }
  if (!c.op.endsWith('stream') && c.op !== 'cancel') {
    const answer = await generateText(args);
    return { text: c.op === 'object' ? JSON.stringify(answer.output) : answer.text, tools: ran, usage: answer.usage.totalTokens };
  }
  const stop = new AbortController();
  let chunks = 0;
  let failed;
  const answer = streamText({ ...args, abortSignal: stop.signal, onError: ({ error }) => (failed = error) });
  let said = '';
  for await (const part of answer.textStream) {
    said += part;
    chunks++;
    if (c.op === 'cancel' && chunks === 5) stop.abort();
  }
  if (failed) throw failed;
  return { text: said, tools: ran, chunks };
}

for (const c of JSON.parse(await text(process.stdin))) {
  let out;
  try {
    out = await run(c);
  } catch (e) {
    const last = RetryError.isInstance(e) ? e.lastError : e;
    out = { error: e.name, message: last.message, status: last.statusCode };
    if (APICallError.isInstance(last)) out.code = last.data?.error?.code ?? JSON.parse(last.responseBody).error.code;
  }
  console.log(JSON.stringify({ name: c.name, ...out }));
}
