--- include: lib/events, lib/tallies
-- Have the events of a job logged and published from now on, whose maker waits for its end alone: somebody wants to
-- read them. Changes nothing at one that has ended, or was asked for already.
-- ARGV: id.
local job = load(ARGV[1])
if job and not job.read and (job.state == 'queued' or job.state == 'running') then
  put(job, 'read', '1')
  if is_implied(job) then begin_log(job) end
  save(job)
  write_tallies()
end
return 1
