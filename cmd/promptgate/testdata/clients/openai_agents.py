"""Runs the cases that it reads on standard input with OpenAI's Agents SDK for Python and prints one JSON line for each.

A case: {name, op, api, model, base_url, key, headers, prompt}; api says which of the SDK's two models is used.
"""

import asyncio
import json
import sys

import agents
import openai
from pydantic import BaseModel


class Weather(BaseModel):
    city: str
    degrees: int


async def run(case):
    ran = []

    @agents.function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        ran.append(city)
        return f"7 degrees in {city}"

    client = openai.AsyncOpenAI(api_key=case["key"], base_url=case["base_url"], default_headers=case.get("headers") or {})
    shape = {"chat": agents.OpenAIChatCompletionsModel, "responses": agents.OpenAIResponsesModel}[case["api"]]
    op = case["op"]
    agent = agents.Agent(
        name="Helper",
        instructions=None if case.get("prompt") else "Use the tool.",
        prompt=case.get("prompt"),
        model=shape(model=case["model"], openai_client=client),
        tools=[get_weather] if op.startswith("tools") else [],
        output_type=Weather if op == "object" else None,
    )
    if op in ("call", "tools", "object"):
        said = (await agents.Runner.run(agent, "How warm is it?")).final_output
        return {"text": said.model_dump_json() if op == "object" else said, "tools": ran}
    result, chunks = agents.Runner.run_streamed(agent, "How warm is it?"), 0
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            chunks += 1
            if op == "cancel" and chunks == 5:
                result.cancel()
    return {"text": result.final_output or "", "tools": ran, "chunks": chunks}


async def main():
    agents.set_tracing_disabled(True)
    for case in json.load(sys.stdin):
        try:
            out = await run(case)
        except openai.APIStatusError as e:
            out = {"error": type(e).__name__, "status": e.status_code, "code": e.code, "message": e.message}
        except openai.APIError as e:
            out = {"error": type(e).__name__, "code": e.code, "message": e.message}
        print(json.dumps({"name": case["name"], **out}), flush=True)


asyncio.run(main())
