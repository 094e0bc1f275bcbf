--- include: lib/breaker
-- An engine host was lost while it held nobody: it died idle, or its model cannot be loaded.
-- ARGV: model, the breaker's policy, the worker, token (a repeated call with the same token is not
--   counted again).
-- Returns what became of the breaker ('old new', or '').
local model, policy, worker, token = ARGV[1], breaker().policy(ARGV[2]), ARGV[3], ARGV[4]
if not redis.call('SET', key.report(token), '1', 'NX', 'EX', 60) then return '' end
local counted = breaker().load(model)
breaker().record(counted, policy, now_ms(), '', 'lost', worker, redis.call('HLEN', key.workers(model)))
return breaker().save(counted)
