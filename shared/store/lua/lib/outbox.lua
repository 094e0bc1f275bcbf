--- include: lib/storage, lib/outputs
-- The outbox of webhooks, what a script that starts or ends a job writes in
-- the same breath, so that no event can be lost between the two.
--   A record's `webhook` is '<events, comma-separated> <base URL> <receiver host:port> <URL>', and behind it the form
--     of the body where that is not the native one (shared/webhooks/bodies.py).
--   key.endpoints(tenant): a hash of a tenant's endpoints by id, as JSON (shared/webhooks/endpoints.py).
--   A delivery (hash key.delivery(id)) has these fields:
--     id job tenant model type base to url created    from its creation
--     job.*                     the job's record as it was when the event happened
--     form                      of the body, where it is not the native one
--     endpoint object once      of an event for an endpoint, which has no job.*: whose, of what, '1' to try it once
--     state                     pending | delivered | dead
--     attempt                   the fence: attempts handed out, whatever became of them
--     failures first            attempts that failed since `first` (ms), when trying began
--     due last recorded code fault delivered   of the latest attempt
--     output_of                 what it refers to in place of `job.output` (outputs.lua)
--     bytes going               how it is counted (storage.lua)
-- `to` is '<tenant> <host:port>': one tenant's dead receiver shuts no other tenant out of a host that
-- both use. A receiver that failed last time gets one send at a time, any other PER_RECEIVER; after
-- OPEN_AFTER failures in a row its circuit is open, and then one send finds out whether it is back.

local PER_RECEIVER = 4
local OPEN_AFTER = 5
local OPEN_MS, OPEN_MAX_MS = 30000, 600000
local RECEIVER_TTL = 86400
local UNDELIVERED_MAX = 10000

local outbox = lazy(function()
  local SNAPSHOT = {'model', 'state', 'created', 'started', 'finished', 'attempt',
    'cancel_requested', 'cached', 'output', 'error', 'usage', 'metadata', 'request_id', 'traceparent'}

  local function queue_up(k, score, member)
    redis.call('ZADD', k, int(score), member)
    redis.call('EXPIRE', k, int(HORIZON))
  end

  -- Put a tenant where the next look at its receivers is due.
  local function reschedule_tenant(tenant, now)
    local first = redis.call('ZRANGE', key.receivers(tenant), 0, 0, 'WITHSCORES')
    if first[2] then
      queue_up(key.tellers(), math.max(tonumber(first[2]), now), tenant)
    else
      redis.call('ZREM', key.tellers(), tenant)
    end
  end

  -- Put a receiver where the next look at it is due: a delivery that may be sent, or a lease that ends.
  local function reschedule(to, now)
    local tenant = string.match(to, '^%S+')
    local circuit = redis.call('HMGET', key.receiver(to), 'failures', 'open_until')
    local limit = circuit[1] and 1 or PER_RECEIVER
    local lease = redis.call('ZRANGE', key.sending(to), 0, 0, 'WITHSCORES')
    local look = tonumber(lease[2])
    if redis.call('ZCARD', key.sending(to)) < limit then
      local due = redis.call('ZRANGE', key.outbox(to), 0, 0, 'WITHSCORES')
      if due[2] then
        -- Not before now, so that a receiver that was just served stands behind the others.
        local at = math.max(tonumber(due[2]), now, tonumber(circuit[2] or 0))
        if not look or at < look then look = at end
      end
    end
    if look then
      queue_up(key.receivers(tenant), look, to)
    else
      redis.call('ZREM', key.receivers(tenant), to)
    end
    reschedule_tenant(tenant, now)
  end

  -- A delivery waits from now on, counted for its tenant too.
  local function pend(tenant, id, now)
    queue_up(key.pending(), now, id)
    queue_up(key.backlog(tenant), now, id)
  end

  local function unpend(tenant, id)
    redis.call('ZREM', key.pending(), id)
    redis.call('ZREM', key.backlog(tenant), id)
  end

  -- Keep a delivery that was given up, to be looked at and replayed.
  local function dead_letter(tenant, id, now)
    local k = key.undelivered(tenant)
    queue_up(k, now, id)
    redis.call('ZREMRANGEBYRANK', k, 0, -UNDELIVERED_MAX - 1)
  end

  -- Keep a delivery, and what it refers to, for so many seconds from now on.
  local function keep_delivery(id, tenant, seconds, now)
    local k = key.delivery(id)
    local values = redis.call('HMGET', k, 'bytes', 'going', 'output_of')
    redis.call('EXPIRE', k, int(seconds))
    if not values[1] then return end
    local second = going(now / 1000, now / 1000 + seconds)
    count_bytes(tenant, tonumber(values[2]), -values[1])
    count_bytes(tenant, second, tonumber(values[1]))
    redis.call('HSET', k, 'going', int(second))
    if values[3] then
      redis.call('HSET', k, 'output_of', outputs().refer(string.match(values[3], '^%S+'), tenant, second))
      outputs().release(values[3], tenant, math.floor(now / 1000))
    end
  end

  -- Write an event of a job into the outbox, if its webhook asks for it.
  local function post(job, event, now)
    local events, base, receiver, url, form = string.match(job.webhook, '^(%S+) (%S+) (%S+) (%S+) ?(%S*)$')
    if not url then return end
    if not string.find(',' .. events .. ',', ',' .. event .. ',', 1, true) then return end
    local id = 'msg_' .. string.gsub(job.id, '^job_', '') .. '_' .. event
    local k, to = key.delivery(id), job.tenant .. ' ' .. receiver
    if redis.call('EXISTS', k) == 1 then return end
    local fields = {'id', id, 'job', job.id, 'tenant', job.tenant, 'model', job.model,
      'type', 'job.' .. event, 'base', base, 'to', to, 'url', url, 'created', int(now),
      'state', 'pending', 'attempt', '0', 'failures', '0', 'first', int(now), 'due', int(now)}
    if form ~= '' then
      fields[#fields + 1] = 'form'
      fields[#fields + 1] = form
    end
    local second, bytes = going(now / 1000, now / 1000 + HORIZON), DELIVERY_BYTES + #job.webhook
    local record = redis.call('HMGET', key.job(job.id), 'output_of', unpack(SNAPSHOT))
    for i, field in ipairs(SNAPSHOT) do
      if record[i + 1] then
        fields[#fields + 1] = 'job.' .. field
        fields[#fields + 1] = record[i + 1]
        bytes = bytes + #record[i + 1]
      end
    end
    if record[1] then
      fields[#fields + 1] = 'output_of'
      fields[#fields + 1] = outputs().refer(string.match(record[1], '^%S+'), job.tenant, second)
    end
    count_bytes(job.tenant, second, bytes)
    redis.call('HSET', k, 'bytes', int(bytes), 'going', int(second), unpack(fields))
    redis.call('EXPIRE', k, int(HORIZON))
    queue_up(key.outbox(to), now, id)
    pend(job.tenant, id, now)
    reschedule(to, now)
  end

  local function asks_for(endpoint, event)
    for _, wanted in ipairs(endpoint.events) do
      if wanted == event then return true end
    end
    return false
  end

  -- Write an event of OpenAI's API into the outbox for each of a tenant's endpoints that asks for it; with `only` for
  -- that one, which is tried once. `job` is the job's id, `object` that of what the event is about.
  local function tell(tenant, model, job, object, event, now, only)
    local rows, told = redis.call('HGETALL', key.endpoints(tenant)), {}
    local second = going(now / 1000, now / 1000 + HORIZON)
    for i = 1, #rows, 2 do
      local name, endpoint = rows[i], cjson.decode(rows[i + 1])
      if only == name or not only and asks_for(endpoint, event) then
        local id = 'msg_' .. string.gsub(object, '^.*_', '') .. '_' .. name
        local k, to = key.delivery(id), tenant .. ' ' .. endpoint.receiver
        told[#told + 1] = id
        if redis.call('EXISTS', k) == 0 then
          local bytes = DELIVERY_BYTES + #endpoint.url
          count_bytes(tenant, second, bytes)
          redis.call('HSET', k, 'id', id, 'job', job, 'tenant', tenant, 'model', model, 'type', event, 'form', 'openai',
            'endpoint', name, 'object', object, 'to', to, 'url', endpoint.url, 'created', int(now), 'state', 'pending',
            'attempt', '0', 'failures', '0', 'first', int(now), 'due', int(now), 'bytes', int(bytes),
            'going', int(second), 'once', only and '1' or '')
          redis.call('EXPIRE', k, int(HORIZON))
          queue_up(key.outbox(to), now, id)
          pend(tenant, id, now)
          reschedule(to, now)
        end
      end
    end
    return told
  end

  return {
    queue_up = queue_up,
    reschedule = reschedule,
    reschedule_tenant = reschedule_tenant,
    pend = pend,
    unpend = unpend,
    dead_letter = dead_letter,
    keep_delivery = keep_delivery,
    post = post,
    tell = tell,
  }
end)
