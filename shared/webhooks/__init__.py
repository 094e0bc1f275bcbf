"""Webhooks: who is told of a job's start and end, where, and how they know that it was us.

Standard Webhooks (https://www.standardwebhooks.com) both ways; docs/webhooks.md is the user's side.
"""
