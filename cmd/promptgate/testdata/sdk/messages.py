"""Runs the cases that it reads on standard input with Anthropic's SDK for Python and prints one JSON line for each.

A case: {name, base_url, key, body, op, retries}; body.stream chooses streaming. Fields that the SDK's signature does not know go in
extra_body, as its users would send them.
"""

import json
import sys

import anthropic

KNOWN = {"model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "stream"}


def run(case):
    client = anthropic.Anthropic(api_key=case["key"], base_url=case["base_url"], max_retries=case.get("retries") or 0)
    body = case.get("body") or {}
    args = {k: v for k, v in body.items() if k in KNOWN}
    args["extra_body"] = {k: v for k, v in body.items() if k not in KNOWN} or None
    op = case.get("op")
    if op == "models":
        models = list(client.models.list())
        assert client.models.retrieve(models[0].id).id == models[0].id
        return {"text": " ".join(m.id for m in models), "id": models[0].id}
    if op == "count":
        return {"usage": client.messages.count_tokens(**args).input_tokens}
    if op == "cancel":
        stream = client.messages.create(**args)
        for event in stream:
            if event.type == "content_block_delta":
                break
        stream.close()
        return {"id": "cancelled"}
    if op == "helper":
        with client.messages.stream(**args) as stream:
            said = "".join(stream.text_stream)
            return {**told(stream.get_final_message()), "streamed": said}
    answer = client.messages.create(**args)
    if not body.get("stream"):
        return told(answer)
    out = {"text": "", "chunks": 0}
    for event in answer:
        out["chunks"] += 1
        if event.type == "message_start":
            out.update(id=event.message.id, model=event.message.model)
        elif event.type == "content_block_delta" and event.delta.type == "text_delta":
            out["text"] += event.delta.text
        elif event.type == "message_delta":
            out.update(usage=event.usage.output_tokens, stop=event.delta.stop_reason)
    return out


def told(message):
    blocks = [b.type for b in message.content]
    text = "".join(getattr(b, "text", "") or getattr(b, "thinking", "") or json.dumps(getattr(b, "input", "")) for b in message.content)
    signatures = "".join(getattr(b, "signature", "") or "" for b in message.content)
    return {
        "id": message.id, "model": message.model, "text": text, "blocks": blocks, "signature": signatures,
        "usage": message.usage.input_tokens + message.usage.output_tokens, "stop": message.stop_reason,
    }


for case in json.load(sys.stdin):
    try:
        result = run(case)
    except anthropic.APIStatusError as e:
        result = {"error": type(e).__name__, "status": e.status_code, "code": e.error_code, "kind": e.type, "message": e.api_message, "request": e.request_id}
    except anthropic.APIError as e:
        result = {"error": type(e).__name__, "message": e.message}
    print(json.dumps({"name": case["name"], **result}), flush=True)
