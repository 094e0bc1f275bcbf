"""What the engines that generate text have in common: checking a request, its sequence, tokens to text.

`input_validator` turns a job into a `sequence`, with the model's own `defaults` and `rules` and the job's
`sampling`; `detokenizer` turns its tokens into text and finds `stop_strings` in it. An engine imports this
package and never another engine.
"""
