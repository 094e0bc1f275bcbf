--- include: lib/flights
-- Cancel a job: at once when it waits, by asking its worker when it runs. Idempotent.
-- ARGV: id, tenant or '*' for any, retention (s).
-- Returns 'missing', or the job's state after the call.
local id, tenant, retention = ARGV[1], ARGV[2], ARGV[3]
local job = load(id)
write_though_full()
if not job or (tenant ~= '*' and job.tenant ~= tenant) then return 'missing' end
if job.state == 'queued' then
  redis.call('HSET', key.job(id), 'cancel_requested', '1')
  endings().finish(job, 'canceled', now_ms(), '', '{"code":"job_canceled","message":"The job was canceled before it ran.","retryable":false}', '', retention)
elseif job.state == 'running' then
  redis.call('HSET', key.job(id), 'cancel_requested', '1')
  redis.call('PUBLISH', key.control(job.model), 'cancel ' .. id)
end
write_tallies()
return job.state
