"""Runs the cases that it reads on standard input with LangChain's chat models and prints one JSON line for each.

A case: {name, op, api, model, base_url, key, headers}; api says which chat model is used, and in which of its shapes.
"""

import json
import sys

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Weather(BaseModel):
    """The weather in a city."""

    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"7 degrees in {city}"


def model_of(case):
    args = {"model": case["model"], "base_url": case["base_url"], "api_key": case["key"], "default_headers": case.get("headers") or {}}
    if case["api"] == "messages":
        return ChatAnthropic(**args)
    return ChatOpenAI(use_responses_api=case["api"] == "responses", **args)


def said(model, messages, stream):
    """One answer, and in how many pieces it came."""
    if not stream:
        return model.invoke(messages), 0
    whole, chunks = None, 0
    for chunk in model.stream(messages):
        whole, chunks = chunk if whole is None else whole + chunk, chunks + 1
    return whole, chunks


def run(case):
    model, op = model_of(case), case["op"]
    messages, ran = [HumanMessage("How warm is it?")], []
    if op.startswith("object"):
        method = {"method": "json_schema"} if op == "object-schema" else {}
        return {"text": model.with_structured_output(Weather, **method).invoke(messages).model_dump_json()}
    if op == "cancel":
        stream = model.stream(messages)
        got = [next(stream) for _ in range(8)]
        stream.close()
        return {"text": "".join(c.text for c in got), "chunks": len(got)}
    if op.startswith("tools"):
        model = model.bind_tools([get_weather])
    while True:
        answer, chunks = said(model, messages, op.endswith("stream"))
        if not answer.tool_calls:
            return {"text": answer.text, "tools": ran, "chunks": chunks, "usage": answer.usage_metadata["total_tokens"] if answer.usage_metadata else 0}
        messages.append(answer)
        for call in answer.tool_calls:
            ran.append(call["args"]["city"])
            messages.append(get_weather.invoke(call))


for case in json.load(sys.stdin):
    try:
        result = run(case)
    except openai.APIStatusError as e:
        result = {"error": type(e).__name__, "status": e.status_code, "code": e.code, "message": e.message}
    except anthropic.APIStatusError as e:
        result = {"error": type(e).__name__, "status": e.status_code, "code": (e.body or {}).get("error", {}).get("code"), "message": e.message}
    except (openai.APIError, anthropic.APIError) as e:
        result = {"error": type(e).__name__, "message": f"{e.message} {e.__cause__!r}"}
    print(json.dumps({"name": case["name"], **result}), flush=True)
