--- include: lib/retries
-- Take a drain off the register, if nothing waits; in one breath, so that no wake-up is lost: a job
-- created before finds the drain refused, one created after finds no drain and rings.
-- A drain that leaves although jobs wait may have been called for one of them: it hands the call on.
-- ARGV: model, worker, drain id, '1' to leave even though jobs wait.
-- Returns {1, ring} signed off, {0, 0} jobs wait.
local model, worker, drain, force = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now = now_ms()
take_due(model, now, 64)
local jobs_wait = depth(model) > 0
if jobs_wait and force ~= '1' then return {0, 0} end
redis.call('ZREM', key.drains(model), drain)
redis.call('ZREM', key.idle(model), worker)
if jobs_wait then notify_one(model) end
return {1, ring_wanted(model, now)}
