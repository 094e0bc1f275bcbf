"""OpenAI's Responses: a response is a job, with what was asked kept beside it, and nothing else."""
