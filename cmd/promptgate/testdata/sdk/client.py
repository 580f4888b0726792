"""Runs the cases that it reads on standard input with the official SDK for Python and prints one JSON line for each.

A case: {name, base_url, key, body, headers}; body.stream chooses streaming. Fields that the SDK's signature does not know go in
extra_body, as its users would send them.
"""

import base64
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
    if case.get("api") == "kept":
        return kept(client, body)
    if case.get("api") == "conversation":
        return converse(client, body)
    if case.get("api") == "batch":
        return batched(client, body["model"])
    if case.get("api") == "passed":
        return passed(client, body["model"])
    if case.get("api") == "embeddings":
        client.embeddings.create(**body)
    if case.get("api") == "transcriptions":
        client.audio.transcriptions.create(file=("hi.wav", b"RIFF"), **body)
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


def absent(ask):
    try:
        ask()
    except openai.NotFoundError as e:
        return type(e).__name__
    return "there"


def kept(client, body):
    """A response that runs in the background, looked at, listed, cancelled and deleted."""
    begun = client.responses.create(**body, background=True)
    steps = [begun.status]
    now = client.responses.retrieve(begun.id)
    steps += [now.status, "charged twice" in now.output_text]
    items = list(client.responses.input_items.list(begun.id))
    steps += [items[0].content[0].text, "charged" not in repr(items)]
    client.responses.cancel(begun.id)
    steps.append("cancelled")
    client.responses.delete(begun.id)
    steps.append(absent(lambda: client.responses.retrieve(begun.id)))
    return {"id": begun.id, "text": " ".join(map(str, steps))}


def converse(client, body):
    """A conversation with a first item, a response in it, and what is in it then."""
    conversation = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "my name is Ada"}], extra_body=body
    )
    answer = client.responses.create(**body, input="hello", conversation=conversation.id)
    steps = [conversation.id[:4], "last user message: hello" in answer.output_text]
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    steps += ["charged twice", items[0].content[0].text if not isinstance(items[0].content, str) else items[0].content]
    steps.append("hello" in repr(items[1]))
    client.conversations.items.delete(items[1].id, conversation_id=conversation.id)
    steps.append(len(list(client.conversations.items.list(conversation.id))) == len(items) - 1)
    client.conversations.delete(conversation.id)
    steps.append(absent(lambda: client.conversations.retrieve(conversation.id)))
    return {"id": conversation.id, "text": " ".join(map(str, steps))}


def batched(client, model):
    """A file that is read and deleted, and one whose requests are answered in a batch."""
    file = client.files.create(file=("a.txt", b"hello"), purpose="user_data", extra_body={"model": model})
    steps = [client.files.retrieve(file.id).filename, client.files.content(file.id).text, client.files.delete(file.id).deleted]
    steps.append(absent(lambda: client.files.retrieve(file.id)))
    ask = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    line = json.dumps({"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": ask})
    file = client.files.create(file=("a.jsonl", line.encode()), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600})
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"k": "v"})
    now = client.batches.retrieve(batch.id)
    steps += [now.status, now.metadata["k"], now.request_counts.completed, client.batches.cancel(batch.id).id == batch.id]
    answered = json.loads(client.files.content(now.output_file_id).text)
    steps += [answered["custom_id"], "hello" in answered["response"]["body"]["choices"][0]["message"]["content"]]
    steps.append(absent(lambda: client.batches.retrieve("batch_none")))
    return {"id": batch.id, "text": " ".join(map(str, steps))}


def passed(client, model):
    """One call of each endpoint that runs no prompt."""
    # The SDK asks for base64 by itself and turns it into numbers.
    many = client.embeddings.create(model=model, input=["a", "b"], dimensions=8)
    one = client.embeddings.create(model=model, input="a", dimensions=8, encoding_format="float")
    same = all(abs(x - y) < 1e-6 for x, y in zip(many.data[0].embedding, one.data[0].embedding))
    steps = [len(many.data), len(many.data[0].embedding), same, many.usage.prompt_tokens]
    whole = client.completions.create(model=model, prompt="once upon")
    parts = client.completions.create(model=model, prompt="once upon", stream=True)
    steps += [whole.choices[0].text[-9:], "".join(p.choices[0].text for p in parts) == whole.choices[0].text]
    steps.append(client.moderations.create(model=model, input="x").results[0].flagged)
    drawn = client.images.generate(model=model, prompt="a cat")
    edited = client.images.edit(model=model, image=("a.png", b"\x89PNG", "image/png"), prompt="a hat")
    varied = client.images.create_variation(model=model, image=("a.png", b"\x89PNG", "image/png"))
    steps += [base64.b64decode(i.data[0].b64_json)[1:4].decode() for i in (drawn, edited, varied)]
    sound = client.audio.speech.create(model=model, voice="alloy", input="hi", response_format="wav").read()
    heard = client.audio.transcriptions.create(model=model, file=("hi.wav", sound), timestamp_granularities=["word", "segment"])
    text = client.audio.translations.create(model=model, file=("hi.wav", sound), response_format="text")
    steps += [sound[:4].decode(), heard.text, text.strip() == heard.text]
    return {"id": "none", "text": " ".join(map(str, steps)), "usage": many.usage.total_tokens}


for case in json.load(sys.stdin):
    try:
        result = run(case)
    except openai.APIStatusError as e:
        result = {"error": type(e).__name__, "status": e.status_code, "code": e.code, "param": e.param, "message": e.message}
    except openai.APIError as e:
        result = {"error": type(e).__name__, "code": e.code, "message": e.message}
    print(json.dumps({"name": case["name"], **result}), flush=True)
