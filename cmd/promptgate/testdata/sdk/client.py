"""Runs the cases that it reads on standard input with the official SDK for Python and prints one JSON line for each.

A case: {name, base_url, key, body, headers}; body.stream chooses streaming. Fields that the SDK's signature does not know go in
extra_body, as its users would send them.
"""

import json
import sys

import openai

KNOWN = {"model", "messages", "stream", "temperature", "max_tokens", "user", "stream_options"}


def run(case):
    client = openai.OpenAI(
        api_key=case["key"], base_url=case["base_url"], max_retries=0, default_headers=case.get("headers") or {}
    )
    body = case["body"]
    if case.get("api") == "responses":
        return respond(client, body)
    args = {k: v for k, v in body.items() if k in KNOWN}
    extra = {k: v for k, v in body.items() if k not in KNOWN}
    answer = client.chat.completions.create(**args, extra_body=extra or None)
    out = {"text": "", "chunks": 0}
    if not body.get("stream"):
        out.update(id=answer.id, model=answer.model, text=answer.choices[0].message.content)
        out["usage"] = answer.usage.total_tokens if answer.usage else None
        return out
    for chunk in answer:
        out["chunks"] += 1
        out.update(id=chunk.id, model=chunk.model)
        if chunk.choices:
            out["text"] += chunk.choices[0].delta.content or ""
        if chunk.usage:
            out["usage"] = chunk.usage.total_tokens
    return out


def respond(client, body):
    answer = client.responses.create(**body)
    out = {"text": "", "chunks": 0}
    if not body.get("stream"):
        out.update(id=answer.id, model=answer.model, text=answer.output_text, usage=answer.usage.total_tokens)
        return out
    for event in answer:
        out["chunks"] += 1
        if event.type == "response.output_text.delta":
            out["text"] += event.delta
        elif event.type == "response.completed":
            out.update(id=event.response.id, model=event.response.model)
            assert event.response.output_text == out["text"]
    return out


for case in json.load(sys.stdin):
    try:
        result = run(case)
    except openai.APIStatusError as e:
        result = {"error": type(e).__name__, "status": e.status_code, "code": e.code, "param": e.param, "message": e.message}
    except openai.APIError as e:
        result = {"error": type(e).__name__, "code": e.code, "message": e.message}
    print(json.dumps({"name": case["name"], **result}), flush=True)
