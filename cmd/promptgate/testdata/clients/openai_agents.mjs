// Runs the cases that it reads on standard input with OpenAI's Agents SDK for Node and prints one JSON line for each.
// A case: {name, op, api, model, base_url, key, headers, prompt}; api says which of the SDK's two models is used.
import { text } from 'node:stream/consumers';
import { Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, run as runAgent, setTracingDisabled, tool } from '@openai/agents';
import OpenAI from 'openai';
import { z } from 'zod';

setTracingDisabled(true);

async function run(c) {
  const ran = [];
  const client = new OpenAI({ apiKey: c.key, baseURL: c.base_url, defaultHeaders: c.headers ?? {} });
  const Model = c.api === 'responses' ? OpenAIResponsesModel : OpenAIChatCompletionsModel;
  const weather = tool({
    name: 'get_weather',
    description: 'The weather in a city.',
    parameters: z.object({ city: z.string() }),
    execute: async ({ city }) => {
      ran.push(city);
      return `7 degrees in ${city}`;
    },
  });
  const agent = new Agent({
    name: 'Helper',
    model: new Model(client, c.model),
    ...(c.prompt ? { prompt: { promptId: c.prompt.id, variables: c.prompt.variables } } : { instructions: 'Use the tool.' }),
    ...(c.op.startsWith('tools') ? { tools: [weather] } : {}),
    ...(c.op === 'object' ? { outputType: z.object({ city: z.string(), degrees: z.number() }) } : {}),
  });
  if (!c.op.endsWith('stream') && c.op !== 'cancel') {
    const { finalOutput } = await runAgent(agent, 'How warm is it?');
    return { text: c.op === 'object' ? JSON.stringify(finalOutput) : finalOutput, tools: ran };
  }
  const stop = new AbortController();
  const result = await runAgent(agent, 'How warm is it?', { stream: true, signal: stop.signal });
  let chunks = 0;
  for await (const event of result) {
    if (event.type === 'raw_model_stream_event' && event.data.type === 'output_text_delta') {
      chunks++;
      if (c.op === 'cancel' && chunks === 5) stop.abort();
    }
  }
  if (c.op !== 'cancel') await result.completed;
  return { text: c.op === 'cancel' ? '' : result.finalOutput, tools: ran, chunks };
}

for (const c of JSON.parse(await text(process.stdin))) {
  let out;
  try {
    out = await run(c);
  } catch (e) {
    out = { error: e.constructor.name, status: e.status, code: e.code, message: e.message };
  }
  console.log(JSON.stringify({ name: c.name, ...out }));
}
