--- include: lib/retries
-- Take a drain off the register, if nothing waits; in one breath, so that no wake-up is lost: a job
-- created before finds the drain refused, one created after finds no drain and rings.
-- ARGV: model, worker, drain id, '1' to leave even though jobs wait.
-- Returns {1, ring} signed off, {0, 0} jobs wait.
local model, worker, drain, force = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = now_ms()
take_due(model, now, 64)
if depth(model) > 0 and force ~= '1' then return {0, 0} end
redis.call('ZREM', key.drains(model), drain)
redis.call('ZREM', key.idle(model), worker)
return {1, ring_wanted(model, now)}
