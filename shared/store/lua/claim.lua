--- include: lib/flights, lib/retries, lib/turns, lib/breaker, lib/drain
-- Hand out up to `room` waiting jobs of a model to a worker, in fair order, each with a new attempt
-- number and a lease; end on the way what is past its deadline. Also keeps the drain in the register.
-- A job at which the script fails hurts no other; it is an error where there is no other.
-- While the model's breaker is open nothing is handed out, and in half-open one job to one worker.
-- ARGV: model, room (1,000 at most), cost budget, worker, drain id or '', drain ttl (ms), lease (ms), retention (s),
--   token (a repeated claim with the same token gets the same jobs again).
-- Returns {now_ms, depth left, wait (ms until the breaker lets somebody try, or 0), what became of the
--   breaker ('old new', or ''), 1 for a doorbell to be rung, job, job, …}; a job is 13 values: id, attempt,
--   tenant, deadline, created, failures, crashes, traceparent, request_id, device_us, estimated start (ms)
--   or '', class, request. No table in a table: Redis sends each in a piece of its own, and the worker wakes for each.
local model, room, budget, worker, drain = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
local drain_ttl, lease, retention, token = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8], ARGV[9]
local now = now_ms()
local MOST_ENDED = 256  -- Past their deadline, in one call: Redis serves nobody else meanwhile. The next call goes on.

if drain ~= '' then
  -- The first claim of a drain is the answer to a ring; those that follow leave alone what rings for others.
  if redis.call('ZADD', key.drains(model), now + drain_ttl, drain) == 1 then
    redis.call('DEL', key.bell(model))
    keep(key.drains(model), HORIZON)
  end
end

local fields_out = CLAIM_FIELDS
local out = {now, 0, 0, '', 0}

-- Answer with these jobs and their requests.
local function hand_out(jobs)
  if #jobs == 0 then return end
  local names = {}
  for i, job in ipairs(jobs) do names[i] = key.request(job.id) end
  local requests = redis.call('MGET', unpack(names))
  local last = #out
  for i, job in ipairs(jobs) do
    for _, field in ipairs(fields_out) do
      last = last + 1
      out[last] = job[field] or ''
    end
    last = last + 1
    out[last] = requests[i] or ''
  end
end

-- Tell that an attempt has begun; with nothing but the record where it is the first one of a job that nobody reads.
local function tell_start(job)
  if job.attempt > 1 or job.head ~= CREATED or not is_unread(job) then
    log(job, job.attempt, 0, 'status', status_event(job))
    return
  end
  job.head, job.spoke = STARTED, true
  put(job, 'implied', '1')
end

local before = redis.call('GET', key.claim(token))
if before then
  local jobs = {}
  for id, attempt in string.gmatch(before, '(%S+)/(%d+)') do
    local job = load(id)
    if job and job.state == 'running' and job.attempt == tonumber(attempt) then jobs[#jobs + 1] = job end
  end
  hand_out(jobs)
  out[2] = depth(model)
  return out
end

local wait, tripped = 0
if (redis.call('HGET', key.breaker(model), 'state') or 'closed') ~= 'closed' then
  tripped = breaker().load(model)
  wait = breaker().wait(tripped, now)
  room = math.min(room, wait > 0 and 0 or 1)
end
if room > 0 then take_due(model, now, room) end
local spent, ended, jobs, handed, leases, popped, left, broken = 0, 0, {}, {}, {}
local function take(job)
  if job.state == 'queued' and tonumber(job.deadline) <= now then
    endings().finish(job, 'expired', now, '', '{"code":"job_expired","message":"The deadline passed while the job waited.","retryable":false}', '', retention)
    ended = ended + 1
    left = depth(model)  -- Who shared its run may wait in its place.
  elseif job.state == 'queued' then
    move(job, 'running')
    job.attempt = job.attempt + 1
    put(job, 'attempt', job.attempt)
    put(job, 'worker', worker)
    if job.parked == '1' then put(job, 'parked', '0') end
    put(job, job.started and 'claimed' or 'started', now)
    tell_start(job)
    save(job)
    jobs[#jobs + 1] = job
    handed[#handed + 1] = job.id .. '/' .. int(job.attempt)
    leases[#leases + 1] = now + lease
    leases[#leases + 1] = job.id
    spent = spent + tonumber(job.cost)
    room = room - 1
    if job.webhook and not job.started then outbox().post(job, 'started', now) end
  end
end
while room > 0 and spent < budget and ended < MOST_ENDED and left ~= 0 do
  popped, left = pop(model, room, budget - spent)
  broken = for_each(key.due(model), popped, take) or broken
end
if broken then keep(key.due(model), HORIZON) end
write_tallies()
if broken and #jobs == 0 then return problem(broken) end
if #jobs > 0 then
  redis.call('ZADD', key.leases(model), unpack(leases))
  keep(key.leases(model), HORIZON)
  redis.call('SET', key.claim(token), table.concat(handed, ' '), 'EX', 60)
  if tripped then
    breaker().begin_probe(tripped, now, handed[1], lease)
    out[4] = breaker().save(tripped)
  end
  hand_out(jobs)
end
out[2], out[3] = left or depth(model), wait
if drain ~= '' then
  -- Who is told that nothing waits is called when something does.
  if out[2] == 0 then
    redis.call('ZADD', key.idle(model), now + (room > 0 and 0 or FULL), worker)
    keep(key.idle(model), HORIZON)
  else
    redis.call('ZREM', key.idle(model), worker)
    if room == 0 and wait == 0 then notify_one(model, true) end
  end
  if room == 0 and not tripped then out[5] = relief_wanted(model, now) end
end
measure_drain(model, now, #jobs, out[2])
return out
