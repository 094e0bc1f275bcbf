"""Embed texts when there is room: `python -m examples.batch_of_embeddings URL TOKEN [HOW MANY]`.

Needs OpenAI's client (`pip install openai`) and a server with the model `all-minilm`.
"""

import json
import sys
import time

from openai import OpenAI

MODEL = "all-minilm"


def main(url: str, token: str, texts: int = 1000) -> None:
    client = OpenAI(base_url=f"{url}/v1", api_key=token)
    lines = (
        {
            "custom_id": f"text {number}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": MODEL, "input": f"The number {number} is one of many."},
        }
        for number in range(texts)
    )
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("texts.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
    )
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(1)
        batch = client.batches.retrieve(batch.id)
        counts = batch.request_counts
        print(f"{batch.status}: {counts.completed if counts else 0} of {texts}")
    if batch.status != "completed" or batch.output_file_id is None:
        sys.exit(f"the batch is {batch.status}: {batch.errors}")
    vectors = {}
    for line in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(line)
        vectors[answer["custom_id"]] = answer["response"]["body"]["data"][0]["embedding"]
    print(f"{len(vectors)} vectors of {len(vectors['text 0'])} numbers")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
