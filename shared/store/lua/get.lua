--- include: lib/outputs, lib/drain
-- A job's record and its place in the queue.
-- ARGV: id, tenant or '*' for any.
-- Returns {position or -1, estimated start (ms) or -1, field, value, …}, or {} when there is no such job
-- of this tenant. An output that the job refers to stands there as its own.
local id, tenant = ARGV[1], ARGV[2]
local record, job = redis.call('HGETALL', key.job(id)), {}
for i = 1, #record, 2 do job[record[i]] = record[i + 1] end
if not job.model or tenant ~= '*' and job.tenant ~= tenant then return {} end
for _, count in ipairs({'failures', 'crashes'}) do
  if not job[count] then
    record[#record + 1] = count
    record[#record + 1] = '0'
  end
end
if job.output_of then
  local output, usage = outputs().referred(job.output_of)
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
  position = estimates().jobs_ahead(job.model, job.class, job.tenant, rank or 0)
  local now = now_ms()
  local rate = estimates().drain_rate(job.model, now)
  if rank and rate then start = math.floor(now + (position + 1) / rate) end
end
table.insert(record, 1, position)
table.insert(record, 2, start)
return record
