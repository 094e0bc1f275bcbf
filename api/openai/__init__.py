"""The OpenAI dialect: requests become job requests, jobs its JSON, events its chunks. Nothing is kept here."""
