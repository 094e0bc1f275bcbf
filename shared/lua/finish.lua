-- End a running attempt and its job with it.
-- ARGV[3..]: id, attempt, target state, output JSON, error JSON, usage JSON, retention (s),
--   '1' to keep the job in the dead-letter list.
-- Returns 1 ended (or ended so before), 0 fenced.
local id, attempt, target = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local job = load(id)
if not job or job.attempt ~= attempt then return 0 end
if job.state == target then return 1 end
if job.state ~= 'running' then return 0 end
finish(job, target, now_ms(), ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10] == '1')
return 1
