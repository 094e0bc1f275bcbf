--- include: lib/events, lib/lanes, lib/statistics, lib/outputs, lib/outbox
-- The end of a job.

local DEAD_MAX = 10000
local MET_ITS_LENGTH = '"finish_reason":"length"'

-- Who shared its run is told in flights.lua, which ends jobs itself: whoever ends jobs includes that one.
local flights

local endings = lazy(function()
  local account, count_end = statistics().account, statistics().count_end

  -- How the end of a response of OpenAI's API is told to its tenant's endpoints, by the state of its job.
  local RESPONSE_ENDED = {succeeded = 'completed', failed = 'failed', expired = 'failed', canceled = 'cancelled'}

  local function tell_end(job, target, output, now)
    local ended = RESPONSE_ENDED[target]
    -- No text can hold these characters unescaped.
    if target == 'succeeded' and string.find(output, MET_ITS_LENGTH, 1, true) then ended = 'incomplete' end
    local object = string.gsub(job.id, '^job_', 'resp_')
    outbox().tell(job.tenant, job.model, job.id, object, job.told_as .. '.' .. ended, now)
  end

  -- Take a job out of its lane, wherever it stands in it.
  local function dequeue(job)
    local lane = key.lane(job.model, job.class, job.tenant)
    if redis.call('ZREM', lane, job.id) == 0 then return end
    redis.call('HINCRBY', key.queue(job.model), 'depth', -1)
    if redis.call('EXISTS', lane) == 1 then
      lane_cost(job.model, job.class, job.tenant, -tonumber(job.cost))
    else
      local clock = tonumber(redis.call('HGET', key.queue(job.model), 'clock:' .. job.class) or 0)
      local tag = tonumber(redis.call('ZSCORE', key.active(job.model, job.class), job.tenant) or clock)
      close_lane(job.model, job.class, job.tenant, tag, clock)
    end
  end

  -- What an ended job is counted with from now on; `kept`: bytes of its output, usage, request and what was asked.
  local function count_ended(job, now, kept)
    local logged = log_bytes(job.said)
    local bytes = (job.refers and REFERRING_BYTES or ENDED_BYTES) + #(job.metadata or '') + #(job.webhook or '')
      + logged + kept
    count_bytes(job.tenant, job_going(job), -(job.bytes or 0) - logged)
    count_bytes(job.tenant, ended_going(now), bytes)
    put(job, 'bytes', bytes)
    job.said = nil
  end

  -- Tell that a job has ended. Returns whether that stands in its log, and how many bytes it takes where there is none:
  -- then its record tells all its events (shared/store/events/log.py).
  local function tell_job(job, target)
    local seq, held = next_seq(job), job.held
    if not is_implied(job) then
      log(job, job.attempt, seq, 'done', '{"status":"' .. target .. '"}')
      return true, 0
    end
    job.held, job.head, job.spoke = nil, string.format('%d-%d', job.attempt, seq), true
    if not held then return false, 0 end
    local told = held.kind .. ' ' .. held.data
    put(job, 'told', told)
    return false, #told
  end

  -- End a job for good: the only way into a terminal state. `dead`: keep it in the dead-letter list, and its request,
  -- so that it can be tried again. `job.refers`: the output is one that it refers to. `job.further`: what else its
  -- worker says of it, by name, packed: JSON members of its document.
  -- The process that made the job and waits for its end (`home`) gets all of it in one message (`announce`).
  local function finish(job, target, now, output, failure, usage, retention, dead)
    local waited = job.state == 'queued'
    move(job, target)
    if waited then
      dequeue(job)
      redis.call('ZREM', key.due(job.model), job.id)
    end
    put(job, 'finished', now)
    if job.refers then
      put(job, 'output_of', outputs().refer(job.refers, job.tenant, ended_going(now)))
    else
      put(job, 'output', output)
      put(job, 'usage', usage)
    end
    if failure ~= '' then put(job, 'error', failure) end
    local further = job.further or ''
    if further ~= '' then
      for name, value in pairs(cmsgpack.unpack(further)) do put(job, name, value) end
    end
    if dead then
      local letters = key.dead(job.tenant)
      redis.call('ZADD', letters, now, job.id)
      redis.call('ZREMRANGEBYRANK', letters, 0, -DEAD_MAX - 1)
      keep(letters, HORIZON)
    end
    local used = account(job, now, usage)
    count_end(job, target, now, not job.cached and used.completion_tokens)
    local logged, told = tell_job(job, target)
    local kept = told + #failure + #further + (job.refers and 0 or #output + #usage)
    local keeps = dead or job.keep
    if keeps then
      redis.call('EXPIRE', key.request(job.id), retention)
      kept = kept + redis.call('STRLEN', key.request(job.id))
    end
    if job.asked then
      redis.call('EXPIRE', key.asked(job.id), retention)
      kept = kept + ASKED_BYTES + tonumber(job.asked)
    end
    count_ended(job, now, kept)
    save(job)
    -- Until here an error at this job leaves it as it was.
    if not waited then leave(key.leases(job.model), job.id) end
    leave(key.deadlines(job.model), job.id)
    if not keeps then doom(key.request(job.id)) end
    redis.call('EXPIRE', key.job(job.id), retention)
    if logged then redis.call('EXPIRE', key.log(job.id), retention) end
    if job.webhook then outbox().post(job, 'completed', now) end
    if job.told_as then tell_end(job, target, output, now) end
    if job.home then
      announce(job.home, job.id .. ' ' .. target .. ' ' .. int(job.attempt) .. ' '
        .. (job.started or '') .. ' ' .. int(now) .. ' ' .. (job.cached or '0') .. ' ' .. #output .. ' ' .. #failure
        .. ' ' .. output .. failure .. usage .. (further ~= '' and '\0' .. further or ''))
    end
    if job.share then flights().fan_out(job, target, now, output, usage, retention) end
  end

  return {finish = finish}
end)
