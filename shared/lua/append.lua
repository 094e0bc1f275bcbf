-- Add events of running attempts to their jobs' logs.
-- ARGV[3..]: six values an event: id, attempt, seq, kind, data, token ids ('' where there are none).
-- Returns one number an event: 1 written (or written before), 0 fenced, 2 written and a cancel waits,
--   -1 refused because it skips a seq: an event before it was never written.
local out, jobs = {}, {}
for i = 3, #ARGV, 6 do
  local id, attempt, seq = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local job = jobs[id]
  if job == nil then
    job = load(id) or false
    jobs[id] = job
  end
  if not job or job.state ~= 'running' or job.attempt ~= attempt then
    out[#out + 1] = 0
  else
    local expected = next_seq(job)
    if seq > expected then
      out[#out + 1] = -1
    else
      if seq == expected then log(job, attempt, seq, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]) end
      out[#out + 1] = job.cancel_requested and 2 or 1
    end
  end
end
return out
