--- include: lib/outputs, lib/drain
-- A job's record and its place in the queue.
-- ARGV: id, tenant or '*' for any.
-- Returns {position or -1, estimated start (ms) or -1, field, value, …}, or {} when there is no such job
-- of this tenant. An output that the job refers to stands there as its own.
local id, tenant = ARGV[1], ARGV[2]
local SHOWN = {'model', 'tenant', 'class', 'state', 'cost', 'created', 'deadline', 'attempt',
  'failures', 'crashes', 'head', 'started', 'finished', 'worker', 'cancel_requested', 'output', 'error',
  'usage', 'fallback_from', 'metadata', 'request_id', 'traceparent', 'cached', 'share', 'follows'}
local REFERENCE = 'output_of'
local UNSAID = {failures = '0', crashes = '0'}
local values = redis.call('HMGET', key.job(id), REFERENCE, unpack(SHOWN))
local reference = table.remove(values, 1)
if not values[1] then return {} end
local job, record = {}, {}
for i, field in ipairs(SHOWN) do
  local value = values[i] or UNSAID[field]
  if value then
    job[field] = value
    record[#record + 1] = field
    record[#record + 1] = value
  end
end
if tenant ~= '*' and job.tenant ~= tenant then return {} end
if reference then
  local output, usage = outputs().referred(reference)
  record[#record + 1] = 'output'
  record[#record + 1] = output or ''
  if not job.usage then
    record[#record + 1] = 'usage'
    record[#record + 1] = usage or ''
  end
end
local position, start = -1, -1
if job.state == 'queued' and not job.follows then
  local rank = redis.call('ZRANK', key.lane(job.model, job.class, job.tenant), id)
  position = jobs_ahead(job.model, job.class, job.tenant, rank or 0)
  local now = now_ms()
  local rate = drain_rate(job.model, now)
  if rank and rate then start = math.floor(now + (position + 1) / rate) end
end
table.insert(record, 1, position)
table.insert(record, 2, start)
return record
