--- include: lib/record, lib/outputs, lib/tallies
-- Forget a job that has ended: its record, request and log, its webhooks, and what it refers to, if nobody else does.
-- ARGV: id, tenant, ids of its deliveries.
-- Returns 'missing', or the state it is in: where that is no terminal one nothing was done.
local id, tenant, now = ARGV[1], ARGV[2], now_ms()
local second = math.floor(now / 1000)
local job = load(id)
if not job or job.tenant ~= tenant then return 'missing' end
if job.state == 'queued' or job.state == 'running' then return job.state end
redis.call('DEL', key.job(id), key.request(id), key.asked(id), key.log(id))
redis.call('ZREM', key.index(tenant), id)
if job.bytes then count_bytes(tenant, ended_going(job.finished), -job.bytes) end
if job.output_of then outputs().release(job.output_of, tenant, second) end
for i = 3, #ARGV do
  -- What was to be told of the job holds its output.
  local delivery = key.delivery(ARGV[i])
  local values = redis.call('HMGET', delivery, 'tenant', 'bytes', 'going', 'output_of')
  if values[1] == tenant then
    redis.call('DEL', delivery)
    if values[2] then count_bytes(tenant, tonumber(values[3]), -values[2]) end
    if values[4] then outputs().release(values[4], tenant, second) end
  end
end
write_tallies()
return job.state
