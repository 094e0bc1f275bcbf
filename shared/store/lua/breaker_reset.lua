--- include: lib/breaker
-- Close a model's breaker by hand, and tell its workers to close theirs. Idempotent.
-- ARGV: model.
-- Returns what became of the breaker ('old new', or '').
local model = ARGV[1]
local closed = breaker().load(model)
breaker().reset(closed, now_ms())
redis.call('PUBLISH', key.control(model), 'reset')
redis.call('PUBLISH', key.wake(model), '1')
return breaker().save(closed)
