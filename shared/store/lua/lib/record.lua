--- include: lib/base
-- A job record (hash key.job(id)) has these fields. Redis packs a hash whose values have 64 bytes at most
-- where nothing else is set, which takes a third of the memory: what is longer from its creation has a key of its own
-- (key.request).
--   model tenant class state seq cost metadata traceparent request_id              from its creation
--   created deadline                     ms since 1970, Redis TIME
--   attempt                              the fence
--   failures crashes                     failed attempts; attempts lost to crashes; none where they are not there
--   head                                 id of the last event in the log
--   started finished                     ms, once known: when its first attempt began, when it ended
--   claimed                              ms, when the present attempt began, if it is not the first
--   past                                 attempts that did not end it, a line each: number, begin, end, reason, worker
--   keep                                 '1' where its request is kept once it has ended (endings.lua)
--   worker cancel_requested output error usage
--   any other member of a job's document   as JSON, under its own name: what its worker said of its end
--   device_us                            device time of the attempts that were given back
--   parked                               '1' while its worker holds it without running it
--   home                                 the process that made it and waits for its end
--   fallback_from                        the model that was asked for, where another one stands in
--   estimate                             when it would start, ms, as it looked when it was made
--   webhook                              who is told of its start and its end (outbox.lua)
--   told_as                              'response' where its end is told to its tenant's endpoints (outbox.lua)
--   share flight followed follows        what it shares with jobs that ask the same (flights.lua)
--   cached                               '1' when its result is another job's
--   asked                                how many bytes key.asked has, which is kept with the record
--   output_of                            what it refers to in place of an output of its own (outputs.lua)
--   read                                 '1' where somebody has asked to read its events though its maker waits (`home`)
--   implied told                         '1' where it ran without a log: its record tells its events; `told` is the
--                                        one between its start and its end, '<kind> <data>', if there was one
--   unlogged                             '1' where its events are told by its record: it ended when it was made
--   bytes said                           what it is counted with (storage.lua); while it lives the bytes of its events apart

-- The record, or nil when there is none. All of it: to look a field up in a packed hash costs as much as to read
-- half of it.
local function load(id)
  local pairs, job = redis.call('HGETALL', key.job(id)), {}
  for i = 1, #pairs, 2 do job[pairs[i]] = pairs[i + 1] end
  if not job.model then return nil end
  job.id, job.changes = id, {}
  job.attempt = tonumber(job.attempt)
  return job
end

-- Change a field of the record; `save` writes what has changed, once a transition.
local function put(job, field, value)
  local changes = job.changes
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

local function save(job)
  if job.spoke then
    put(job, 'head', job.head)
    if job.said then put(job, 'said', job.said) end
  end
  if #job.changes > 0 then
    redis.call('HSET', key.job(job.id), unpack(job.changes))
    job.changes, job.spoke = {}, nil
  end
end

-- Move a job to another state; a move that states.py does not list is a bug and stops the script
-- before anything is written.
local function move(job, target)
  if not string.find(MOVES, ' ' .. job.state .. '>' .. target .. ' ', 1, true) then
    error('no transition ' .. job.state .. ' -> ' .. target)
  end
  job.state = target
  put(job, 'state', target)
end
