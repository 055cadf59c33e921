-- Health of Streams, LookupTables, Rules and Runtimes for Argo CD.
local health = {status = "Progressing", message = "the operator has not seen it yet"}
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  health.message = "the operator has not seen the newest change yet"
  return health
end
local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local ready = conditions["Ready"]
local stalled = conditions["Stalled"]
if obj.spec ~= nil and obj.spec.suspend == true then
  health.status = "Suspended"
  health.message = "suspended"
elseif stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = stalled.message
elseif ready ~= nil and ready.status == "True" then
  health.status = "Healthy"
  health.message = ready.message
elseif ready ~= nil then
  health.message = ready.message
end
return health
