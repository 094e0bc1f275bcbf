-- Give a running attempt back to the queue.
-- ARGV[3..]: id, attempt, delay (ms), charge ('failures' | 'crashes' | ''), reason, backlog.
-- Returns {1, ring} given back, {0, 0} fenced.
local id, attempt, delay, charge = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local job = load(id)
if not job or job.attempt ~= attempt or job.state ~= 'running' then return {0, 0} end
if charge ~= '' then redis.call('HINCRBY', key.job(id), charge, 1) end
local now = now_ms()
requeue(job, now, delay, ARGV[7])
return {1, ring_wanted(job.model, now, tonumber(ARGV[8]))}
