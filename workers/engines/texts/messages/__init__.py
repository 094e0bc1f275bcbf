"""Reads a text, while it comes, as the message that it is: thoughts, content and calls of tools.

`reader` puts the others together: `thoughts` takes reasoning apart from the rest, `calls` finds calls of
tools in that as the model's family writes them, `call_object` and `json_values` follow their arguments;
`template` reads as the tokenizer's own response template says. All are functions of the text: however it is
cut into pieces, what they have told after as much of it is the same. So an attempt that goes on with a text
tells no part of a part again.
"""
