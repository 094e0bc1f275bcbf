--- include: lib/record, lib/storage
-- The events of a job: written to its log, and published to those who read it now.

-- Whether nobody reads the events of a job: who made it waits for its end alone, and nobody has asked for them
-- (log_events.lua). Processes of versions before `REPLY_PREFIX` do not ask.
local function is_unread(job)
  return job.home and not job.read and string.sub(job.home, 1, #REPLY_PREFIX) == REPLY_PREFIX
end

-- Publish an event, naming the one before it.
local function publish(job, id, kind, data)
  if not is_unread(job) then
    redis.call('PUBLISH', key.events(job.id), id .. ' ' .. job.head .. ' ' .. kind .. ' ' .. data)
  end
  job.head = id
end

local begin_log

-- Whether an unread job has no log yet though it runs: all that it has said is that it runs, and what this call holds
-- back (`held`, write.lua).
local function is_implied(job) return job.implied == '1' and (job.head == STARTED or job.held) end

-- Add an event to the job's log and publish it. The first event of all jobs is the same one, so it is
-- never written: a stream takes 4.7 KB from its first entry, and a job that waits has said no more.
local function log(job, attempt, seq, kind, data, tokens)
  if is_implied(job) then begin_log(job) end
  local id, stream = string.format('%d-%d', attempt, seq), key.log(job.id)
  job.spoke = true
  if job.unlogged then
    job.head = id
    return
  end
  if tokens and tokens ~= '' then
    redis.call('XADD', stream, id, 'e', kind, 'd', data, 't', tokens)
  else
    redis.call('XADD', stream, id, 'e', kind, 'd', data)
  end
  -- As its record does until the job has ended; a moment that has passed would delete it.
  if job.head == CREATED then
    redis.call('EXPIREAT', stream, math.ceil(math.max(job.deadline, now_ms()) / 1000) + RETENTION)
  end
  local before = job.said
  job.said = (before or 0) + EVENT_BYTES + #data + #(tokens or '')
  local grown = log_bytes(job.said) - log_bytes(before)
  if grown > 0 then count_bytes(job.tenant, job_going(job), grown) end
  publish(job, id, kind, data)
end

local function next_seq(job)
  return tonumber(string.match(job.head, '%-(%d+)$')) + 1
end

-- Write down what a job without a log has said so far.
begin_log = function(job)
  local held = job.held
  job.implied, job.held, job.head = nil, nil, CREATED
  put(job, 'implied', '0')
  log(job, 1, 0, 'status', STARTED_DATA)
  if held then log(job, 1, 1, held.kind, held.data, held.tokens) end
end

local function status_event(job, extra)
  return '{"status":"' .. job.state .. '","attempt":' .. int(job.attempt) .. (extra or '') .. '}'
end
