-- Look through a piece of a tenant's jobs, newest first, for those that fit. Reads alone, and no more than it is told.
-- ARGV: tenant, where to begin and where to end (as ZREVRANGEBYLEX takes them), how many ids to look at, how many to
--   find, what a job must have, '' for anything: state, model, text of its id, name and value of its metadata, or a
--   text that is in one of them.
-- Returns {ids that were looked at, the last of them or '', 1 if there are no more, id that fits, …}.
local tenant, top, bottom, most, wanted = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local state, model, text, name, value, within = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10], ARGV[11]
local reads = state ~= '' or model ~= '' or name ~= '' or within ~= ''

local function has(metadata)
  if not metadata then return false end
  for k, v in pairs(cjson.decode(metadata)) do
    if name ~= '' and k == name and (value == '' or v == value) then return true end
    if within ~= '' and (string.find(k, within, 1, true) or string.find(v, within, 1, true)) then return true end
  end
  return false
end

local function fits(id)
  if text ~= '' and not string.find(id, text, 1, true) then return false end
  if not reads then return true end
  local found = redis.call('HMGET', key.job(id), 'state', 'model', 'metadata')
  if not found[1] or state ~= '' and found[1] ~= state or model ~= '' and found[2] ~= model then return false end
  return name == '' and within == '' or has(found[3])
end

local ids = redis.call('ZREVRANGEBYLEX', key.index(tenant), top, bottom, 'LIMIT', 0, most)
local out, looked = {0, '', #ids < most and 1 or 0}, 0
for i, id in ipairs(ids) do
  looked = i
  if fits(id) then
    out[#out + 1] = id
    if #out - 3 >= wanted then
      if i < #ids then out[3] = 0 end
      break
    end
  end
end
out[1], out[2] = looked, ids[looked] or ''
return out
