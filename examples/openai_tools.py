"""A chat with tools, by OpenAI's own client: the model calls a function, gets what it returns, and answers.

    pip install openai
    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=$TOKEN python examples/openai_tools.py MODEL

MODEL is a model whose chat template shows tools.
"""

import json
import sys
from typing import Any

from openai import OpenAI

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "temperature",
            "description": "The temperature in a city, in degrees Celsius.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"enum": ["Oslo", "Lagos"]}},
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }
]
MEASURED = {"Oslo": -4, "Lagos": 31}


def temperature(city: str) -> int:
    return MEASURED[city]


def main() -> None:
    client, model = OpenAI(), sys.argv[1]
    messages: list[Any] = [{"role": "user", "content": "How warm is it in Oslo?"}]
    # "required" makes a small model call the function too; "auto" leaves it to the model.
    asked = client.chat.completions.create(
        model=model,
        messages=messages,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        max_completion_tokens=64,
    )
    said = asked.choices[0].message
    messages.append(said.model_dump(exclude_none=True))
    for call in said.tool_calls or ():
        result = temperature(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": str(result)})

    answer = client.chat.completions.create(
        model=model,
        messages=messages,
        tools=TOOLS,
        tool_choice="none",
        max_completion_tokens=32,
        stream=True,
    )
    for chunk in answer:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
