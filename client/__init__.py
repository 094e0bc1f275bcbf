"""The Python client of a truthgpt server. It stands alone: no Flask, Celery, Redis or torch behind it."""

from client.client import Client
from client.delivery import Delivery
from client.errors import ApiError, ClientError, ConnectionFailed
from client.event import Event, message_of, text_of
from client.job import Job, JobError, JobFailed
from client.model import Model, Readiness

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "Delivery",
    "Event",
    "Job",
    "JobError",
    "JobFailed",
    "Model",
    "Readiness",
    "message_of",
    "text_of",
]
