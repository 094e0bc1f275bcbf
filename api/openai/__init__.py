"""OpenAI's dialect: requests become job requests, jobs its JSON, events its chunks. No state is kept here."""
