-- A job's record and its place in the queue.
-- ARGV[3..]: id, tenant or '*' for any.
-- Returns {position or -1, field, value, …}, or {} when there is no such job of this tenant. The
-- request stays where it is: only its worker wants it, and it may be large.
local id, tenant = ARGV[3], ARGV[4]
local SHOWN = {'id', 'model', 'tenant', 'class', 'state', 'cost', 'created', 'deadline', 'attempt',
  'failures', 'crashes', 'head', 'started', 'finished', 'worker', 'cancel_requested', 'output', 'error',
  'usage', 'fallback_from', 'metadata', 'request_id', 'traceparent'}
local values = redis.call('HMGET', key.job(id), unpack(SHOWN))
if not values[1] then return {} end
local job, record = {}, {}
for i, field in ipairs(SHOWN) do
  if values[i] then
    job[field] = values[i]
    record[#record + 1] = field
    record[#record + 1] = values[i]
  end
end
if tenant ~= '*' and job.tenant ~= tenant then return {} end
local position = -1
if job.state == 'queued' then
  local rank = redis.call('ZRANK', key.lane(job.model, job.class, job.tenant), id)
  position = rank or 0
  for _, class in ipairs(CLASSES) do
    local tenants = redis.call('ZRANGE', key.active(job.model, class), 0, 63)
    for _, other in ipairs(tenants) do
      local lane = key.lane(job.model, class, other)
      if class ~= job.class then
        position = position + redis.call('ZCARD', lane)
      elseif other ~= job.tenant then
        -- Tenants take turns, so at most as many of each other tenant go first as of our own.
        position = position + math.min(redis.call('ZCARD', lane), rank or 0)
      end
    end
    if class == job.class then break end
  end
end
table.insert(record, 1, position)
return record
