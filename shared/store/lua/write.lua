--- include: lib/flights, lib/retries, lib/breaker
-- What a worker has to say, in order: events of running attempts, ends, and attempts given back.
-- Counts for the model's breaker what the attempts that end here say of their engine, in the same call.
-- ARGV: retention (s), the breaker's policy ('' where none counts), the worker, then records,
--   each a kind and its values:
--   'append', id, attempt, seq, kind, data, token ids ('' where there are none)
--   'finish', id, attempt, target state, output JSON, error JSON, usage JSON, '1' for the dead letters,
--     verdict, seq of its event or 0, further members of its document by name, packed as msgpack, or ''
--   'requeue', id, attempt, delay (ms), charge ('failures' | 'crashes' | ''), reason,
--     device time of all attempts so far (microseconds), verdict, seq of its event or 0
-- Returns an error where the script failed at a job, once all is done for the others: each record may be repeated. Else
-- what became of the breaker ('old new', or ''), then one WriteResult a record (shared/domain/records.py).
local retention, worker = ARGV[1], ARGV[3]
local policy = ARGV[2] ~= '' and breaker().policy(ARGV[2])
local now = now_ms()
write_though_full()
local jobs, breakers, out = {}, {}, {''}

local function find(id)
  if jobs[id] == nil then jobs[id] = load(id) or false end
  return jobs[id]
end

local function breaker_of(model)
  breakers[model] = breakers[model] or breaker().load(model)
  return breakers[model]
end

-- Only the write that really ends an attempt counts, so neither a repeated nor a fenced one does.
local function judged(job, verdict)
  if not policy then return end
  local failed = verdict == 'failure' or verdict == 'lost'
  local workers = failed and redis.call('HLEN', key.workers(job.model)) or 1
  local counted = breaker_of(job.model)
  -- Who tries the model is of interest to one that is not closed.
  local holder = counted.state == 'closed' and '' or job.id .. '/' .. int(job.attempt)
  breaker().record(counted, policy, now, holder, verdict, worker, workers)
end

-- Where Redis has forgotten a claim, two workers may hold the same attempt: the one that it knows goes on.
local function its(job) return worker == '' or job.worker == worker end

-- Hold back the first event of a job without a log: if it is the only one before the end, the record has room for it.
local function hold(job, seq, kind, data, tokens)
  if seq > 1 or not is_implied(job) or job.followed then return false end
  job.held, job.head, job.spoke = {kind = kind, data = data, tokens = tokens}, '1-1', true
  return true
end

local function append(job, attempt, seq, kind, data, tokens)
  if job.state ~= 'running' then return WRITE_FENCED end
  local expected = next_seq(job)
  if seq > expected then return WRITE_MISSING_EVENT end
  if seq == expected then
    if not hold(job, seq, kind, data, tokens) then log(job, attempt, seq, kind, data, tokens) end
    if job.followed then flights().pass_on(job, kind, data, tokens) end
  end
  return job.cancel_requested and WRITE_CANCEL_REQUESTED or WRITE_DONE
end

local function ended(job, target, output, failure, usage, dead, verdict, seq, further)
  if job.state == target then return WRITE_DONE end
  if job.state ~= 'running' then return WRITE_FENCED end
  if seq > next_seq(job) then return WRITE_MISSING_EVENT end
  job.further = further
  endings().finish(job, target, now, output, failure, usage, retention, dead == '1')
  judged(job, verdict)
  return WRITE_DONE
end

local function given_back(job, delay, charge, reason, device_us, verdict, seq)
  if job.state ~= 'running' then return WRITE_FENCED end
  if seq > next_seq(job) then return WRITE_MISSING_EVENT end
  if device_us ~= '0' then put(job, 'device_us', device_us) end
  judged(job, verdict)
  local wait = 0
  if policy and charge == 'failures' then wait = breaker().retry_wait(breaker_of(job.model), policy, now) end
  if charge ~= '' then put(job, charge, int(tonumber(job[charge] or 0) + 1)) end
  retries().requeue(job, now, math.max(delay, wait), reason)
  if wait > delay then return WRITE_RETRY_DELAYED end
  return ring_wanted(job.model, now) == 1 and WRITE_SHOULD_NOTIFY or WRITE_DONE
end

-- The record that begins at ARGV[i].
local function carry_out(i)
  local kind, job = ARGV[i], find(ARGV[i + 1])
  if not job or job.attempt ~= tonumber(ARGV[i + 2]) or not its(job) then return WRITE_FENCED end
  if kind == 'append' then
    return append(job, job.attempt, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  elseif kind == 'finish' then
    return ended(job, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7],
      ARGV[i + 8], tonumber(ARGV[i + 9]), ARGV[i + 10])
  end
  return given_back(job, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7],
    tonumber(ARGV[i + 8]))
end

local LENGTH = {append = 7, finish = 11, requeue = 9}
local i, failure = 4
while i <= #ARGV do
  local done, became = pcall(carry_out, i)
  if done then
    out[#out + 1] = became
  else
    -- What is half done of the job is not saved, and nothing more of it carried out: all else is.
    failure, jobs[ARGV[i + 1]] = failure or became, false
  end
  i = i + LENGTH[ARGV[i]]
end
for id, job in pairs(jobs) do
  local done, why = true
  if job and job.held then done, why = pcall(begin_log, job) end
  if not done then failure, jobs[id] = failure or why, false end
end
for _, job in pairs(jobs) do
  if job then save(job) end
end
for _, counted in pairs(breakers) do
  out[1] = breaker().save(counted)
end
write_tallies()
if failure then return problem(failure) end
return out
