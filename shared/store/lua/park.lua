--- include: lib/record
-- Mark attempts that their worker holds without running them; their lease's end charges no crash.
-- ARGV: '1' parked or '0' running again, then pairs id, attempt. A stale attempt changes nothing.
write_though_full()
for i = 2, #ARGV, 2 do
  local job = load(ARGV[i])
  if job and job.state == 'running' and job.attempt == tonumber(ARGV[i + 1]) then
    put(job, 'parked', ARGV[1])
    save(job)
  end
end
return 1
