--- include: lib/doorbells, lib/breaker
-- A worker's heartbeat: renew the leases of all its attempts, its drain, and what it says of itself.
-- ARGV: model, worker, report JSON, lease (ms), drain id or '', drain ttl (ms), then pairs id, attempt.
-- Returns how many jobs wait, then one LeaseResult a pair (shared/domain/records.py).
local model, worker, report = ARGV[1], ARGV[2], ARGV[3]
local lease, drain, drain_ttl = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local now = now_ms()
write_though_full()
if report ~= '' then
  redis.call('HSET', key.workers(model), worker, int(now + lease) .. ' ' .. report)
  keep(key.workers(model), math.ceil(lease / 250))
else
  redis.call('HDEL', key.workers(model), worker)
end
if drain ~= '' then redis.call('ZADD', key.drains(model), 'XX', int(now + drain_ttl), drain) end
local out = {depth(model)}
local probed = breaker().load(model)
for i = 7, #ARGV, 2 do
  local values = redis.call('HMGET', key.job(ARGV[i]), 'attempt', 'state', 'cancel_requested')
  if values[1] == ARGV[i + 1] and values[2] == 'running' then
    redis.call('ZADD', key.leases(model), int(now + lease), ARGV[i])
    breaker().renew_probe(probed, now, ARGV[i] .. '/' .. ARGV[i + 1], lease)
    out[#out + 1] = values[3] and LEASE_CANCEL_REQUESTED or LEASE_RENEWED
  else
    out[#out + 1] = LEASE_LOST
  end
end
breaker().save(probed)
return out
