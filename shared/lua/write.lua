-- What a worker has to say, in order: events of running attempts, ends, and attempts given back.
-- ARGV[3..]: retention (s), backlog, then records, each a kind and its values:
--   'append', id, attempt, seq, kind, data, token ids ('' where there are none)
--   'finish', id, attempt, target state, output JSON, error JSON, usage JSON, '1' for the dead letters
--   'requeue', id, attempt, delay (ms), charge ('failures' | 'crashes' | ''), reason,
--     device time of all attempts so far (microseconds)
-- Returns one number a record: 0 fenced (another attempt, or nobody, owns the job), 1 done or done
--   before, 2 done and a cancel waits, 3 done and a doorbell is wanted, -1 refused because an event
--   before it was never written.
local retention, backlog = ARGV[3], tonumber(ARGV[4])
local now = now_ms()
local jobs, out = {}, {}

local function find(id)
  if jobs[id] == nil then jobs[id] = load(id) or false end
  return jobs[id]
end

local function append(job, attempt, seq, kind, data, tokens)
  if job.state ~= 'running' then return 0 end
  local expected = next_seq(job)
  if seq > expected then return -1 end
  if seq == expected then log(job, attempt, seq, kind, data, tokens) end
  return job.cancel_requested and 2 or 1
end

local function ended(job, target, output, failure, usage, dead)
  if job.state == target then return 1 end
  if job.state ~= 'running' then return 0 end
  finish(job, target, now, output, failure, usage, retention, dead == '1')
  return 1
end

local function given_back(job, delay, charge, reason, device_us)
  if job.state ~= 'running' then return 0 end
  if device_us ~= '0' then put(job, 'device_us', device_us) end
  if charge ~= '' then put(job, charge, int(tonumber(job[charge]) + 1)) end
  requeue(job, now, delay, reason)
  return ring_wanted(job.model, now, backlog) == 1 and 3 or 1
end

local LENGTH = {append = 7, finish = 8, requeue = 7}
local i = 5
while i <= #ARGV do
  local kind, job = ARGV[i], find(ARGV[i + 1])
  if not job or job.attempt ~= tonumber(ARGV[i + 2]) then
    out[#out + 1] = 0
  elseif kind == 'append' then
    out[#out + 1] = append(job, job.attempt, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  elseif kind == 'finish' then
    out[#out + 1] = ended(job, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7])
  else
    out[#out + 1] = given_back(job, tonumber(ARGV[i + 3]), ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
  end
  i = i + LENGTH[kind]
end
for _, job in pairs(jobs) do
  if job then save(job) end
end
return out
