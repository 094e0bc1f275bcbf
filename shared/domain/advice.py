"""What a client does about each code of `shared.domain.errors.PROBLEMS`; docs/errors.md says the same.

Backticks mark code.
"""

ADVICE: dict[str, str] = {
    "bad_request": (
        "Check URL, headers and framing of the request; the HTTP client or a proxy in between"
        " is at fault. Also stands for rarer statuses such as 414 and 431."
    ),
    "malformed_json": "Send one JSON text in UTF-8: no NaN, no lone surrogates, at most 64 levels deep.",
    "invalid_request": (
        "`errors` lists each fault with its place. Unknown fields are faults too, so look for"
        " typos."
    ),
    "invalid_parameter": "`detail` names the parameter or header and what it takes.",
    "invalid_cursor": (
        "Use the id of the last event that you got, or a listing's `next_cursor`, exactly as "
        "it came; or leave it out to start over."
    ),
    "unsupported_media_type": "Send `Content-Type: application/json`.",
    "body_too_large": "Send less at once. The operator sets the limit with `MAX_BODY_BYTES`.",
    "body_timeout": (
        "Send the body at once; the connection is too slow or something in between holds it "
        "back. The operator sets the time with `BODY_TIMEOUT_SEC`."
    ),
    "unknown_model": "`GET /v1/models` lists the models of this server.",
    "idempotency_mismatch": "Use a new key for a new request, or repeat the first request's body.",
    "not_found": "`/openapi.json` lists the paths. There are no slashes at their ends.",
    "job_not_found": "The id is wrong, or the job was deleted, has expired, or is somebody else's.",
    "response_not_found": (
        "The id is wrong, or the response was deleted, has expired, is somebody else's, or was "
        "made with `store: false`."
    ),
    "previous_response_not_found": (
        "Send the whole conversation as `input`, without `previous_response_id`."
    ),
    "events_expired": "Get the job itself; its `output` outlives its events.",
    "input_gone": "The input was at fault, so it went with the job's end. Submit another one as a new job.",
    "file_not_found": "The id is wrong, or the file was deleted, has expired, or is somebody else's.",
    "file_in_use": "Cancel the batch, or wait for its end.",
    "batch_not_found": "The id is wrong, or the batch is somebody else's, or ended long ago.",
    "batch_ended": "Its `status` says how. There is nothing left to cancel.",
    "job_not_failed": "Only a failed job can be tried again; submit a new one instead.",
    "job_not_terminal": "Cancel the job, wait for its end, then delete it.",
    "api_key_not_found": (
        "`GET /v1/admin/keys` lists the keys; one that ended is forgotten after 30 days."
    ),
    "api_key_ended": "It was revoked or has expired. Make a new one.",
    "method_not_allowed": "The `Allow` header lists the methods of this path.",
    "unauthorized": (
        "Send `Authorization: Bearer <token>`. For an expired ticket get the job again: "
        "`urls.events` has a new one."
    ),
    "forbidden": "Use a token whose scopes allow this, or ask the operator for one.",
    "rate_limited": (
        "Wait for `Retry-After`. `RateLimit` and `RateLimit-Policy` say which limit it was "
        "and how you stand with the others."
    ),
    "redis_unavailable": (
        "Try again after `Retry-After`, with an `Idempotency-Key`: the request may have been "
        "taken. Operators: is Redis up, is `REDIS_URL` right?"
    ),
    "still_running": (
        "OpenAI routes only: the answer was held as long as clients wait for one. Send the same request "
        "again: a retry of OpenAI's clients joins the job."
    ),
    "storage_full": (
        "Try again after `Retry-After`; jobs that run go on. Operators: give Redis more memory "
        "(`maxmemory`, `EMBEDDED_REDIS_MAXMEMORY`), or keep less (`JOB_RETENTION_SEC`, `TENANT_MAX_BYTES`)."
    ),
    "storage_quota_exceeded": (
        "Wait for `Retry-After`, when enough of what you have stored expires, or delete jobs that have ended "
        "(`DELETE /v1/jobs/{job_id}`). Operators: `max_bytes` of the key, `TENANT_MAX_BYTES`."
    ),
    "uploads_busy": "Send the file again after `Retry-After`.",
    "file_storage_unavailable": (
        "Try again after `Retry-After`. Operators: the log has the cause, such as a full disk."
    ),
    "file_storage_full": (
        "Try again later. Operators: raise `FILE_TOTAL_BYTES`, or shorten `FILE_RETENTION_SEC`."
    ),
    "queue_full": (
        "Try again after `Retry-After`. Operators: add workers, or raise `max_queued` of the model."
    ),
    "tenant_queue_full": (
        "Try again after `Retry-After`, or cancel jobs that wait. Operators: `max_queued` of "
        "the key, `TENANT_MAX_QUEUED`."
    ),
    "deadline_unreachable": (
        "Try again after `Retry-After`, with a longer `expires_in` or a higher `priority`."
    ),
    "model_unavailable": (
        "Try again after `Retry-After`, or make a job with `POST /v1/jobs`, which waits. "
        "Operators: `/ready` and `GET /v1/models` say what state the workers and the circuit "
        "breaker are in."
    ),
    "internal_error": (
        "Try again. If it stays, report `request_id`: the server's log has the cause under it."
    ),
    "invalid_input": (
        "The engine refused this input, or a prediction's `input` has members that its model does not "
        "take; `detail` says why. Change the input."
    ),
    "prompt_too_long": "Shorten the prompt; `limits.max_prompt_tokens` in `GET /v1/models` is the bound.",
    "poison_input": (
        "The model failed on this input, and not on others beside it or shortly before. Change the"
        " input; if it looks right, report the job's id: the worker's log has the cause."
    ),
    "output_too_large": (
        "Ask for less at once. `detail` says whether the bound is this server's (`MAX_OUTPUT_BYTES`)"
        " or that of its Redis."
    ),
    "engine_error": (
        "The model failed, and retries did not help. Submit the job again; if it stays, "
        "report the job's id."
    ),
    "out_of_memory": (
        "The job did not fit even alone, and not on another attempt. Ask for less, or for a worker "
        "with more memory."
    ),
    "worker_crashed": (
        "This job was running each time that its worker died, so it may be the cause. Do not "
        "resubmit it unchanged."
    ),
    "run_timeout": "Ask for less (fewer tokens), or have `run_timeout` of the model raised.",
    "job_canceled": (
        "Somebody canceled the job, or the reader of its `/v1/infer/stream` did not come back"
        " in time."
    ),
    "job_expired": (
        "Submit again with a later `expires_in`, a higher `priority`, or when the queue is shorter."
    ),
    "webhook_refused": (
        "`errors` says what is wrong with `webhook.url`: it must be https, with a host that "
        "has public addresses only. Operators: `WEBHOOK_ALLOW_HOSTS` allows more."
    ),
    "webhook_secret_missing": (
        "Leave `webhook` out, or have the operator set `WEBHOOK_HMAC_SECRET`."
    ),
    "webhook_endpoint_not_found": "It may have been deleted. `GET /v1/webhook_endpoints` lists yours.",
    "too_many_webhook_endpoints": "Delete one that you no longer need; a tenant may have 16.",
    "webhook_unreachable": (
        "`detail` names the fault, as a delivery's `error` does. Mend the endpoint and test it again."
    ),
    "unknown_event_type": ("`type` must be `inference.requested`."),
    "ingest_not_configured": (
        "Have the operator set `WEBHOOK_HMAC_SECRET`, or use `POST /v1/jobs` with a token."
    ),
    "invalid_signature": (
        "`detail` says which. Sign the raw body with an active secret at the time of sending;"
        " check the clock."
    ),
    "grammars_busy": (
        "Grammars are compiled before a job is stored, a few at a time. Try again after `Retry-After`."
    ),
    "invalid_grammar": (
        "`detail` and `errors` name the keyword that cannot be enforced, or the bound. Leave it out, or ask "
        "for less."
    ),
    "file_quota_exceeded": (
        "Delete files, or upload them with `expires_after`. Operators: `FILE_TENANT_*`."
    ),
    "too_many_batches": ("Wait for the end of one, or cancel one. Operators: `BATCH_TENANT_OPEN`."),
    "webhook_lookups_busy": (
        "Look-ups of your webhooks' host names hang, and no more may at once. Try again after "
        "`Retry-After`, give hosts whose name service answers, or submit without `webhook` and poll."
    ),
    "webhook_backlog_full": (
        "Try again after `Retry-After`, or submit without `webhook` and poll. Operators: are "
        "deliveries being made? `WEBHOOK_MAX_PENDING` is the bound."
    ),
}
