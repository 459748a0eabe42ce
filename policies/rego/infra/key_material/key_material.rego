# METADATA
# title: No key material in the program
# description: No private key, password or token stands in a resource as text, and nothing is made whose secret would lie in the state.
# custom:
#   owner: security
#   runbook: runbooks/infra-keys.md
#   severity: deny
#   reads: [environment, layer, resources, statements, texts]
#   limits: [limits.secret_types]
package sentinelnet.infra.key_material

import data.sentinelnet.cloud
import rego.v1

default report := {"rule": "infra.key-material", "verdict": "deny", "reasons": ["the rule could not be evaluated"]}

report := cloud.each("infra.key-material", items, good, bad)

items := array.concat(input.texts, held)

held := [r | some type in data.limits.secret_types; some r in cloud.of(type)]

good := [true | some t in input.texts; harmless(t)]

bad := array.concat(
	[concat(" ", [t.resource, t.path, "holds key material or a secret as text: name a secret of Secrets Manager instead"]) | some t in input.texts; not harmless(t)],
	[cloud.says(r, "keeps a secret in the state: let the key system or Secrets Manager make it") | some r in held],
)

# Names have underscores in Terraform and none in Pulumi's lower case.
# References and sensitive variables are no text: they are not among the facts' texts. Each proof is a match that is false:
# a match that the engine cannot answer proves nothing.
harmless(t) if {
	named_harmless(t)
	regex.match(`-----BEGIN [A-Z ]*PRIVATE KEY|(^|[^A-Z0-9])(AKIA|ASIA)[A-Z0-9]{16}($|[^A-Z0-9])|gh[pousr]_[A-Za-z0-9]{36}`, t.text) == false
	regex.match(
		`(^|[^:])(password|PASSWORD|Password|passwd|PASSWD|secret|SECRET|Secret|api_?key|API_?KEY|ApiKey|token|TOKEN|Token)["']?\s*[:=]\s*["']?[A-Za-z0-9+/_!@#%^&*-]{8,}`,
		t.text,
	) == false
}

named_harmless(t) if {
	t.text != ""
	regex.match(`(^|[._])(password|passphrase|secret|secret_?string|secret_?binary|secret_?key|private_?key|auth_?token|token|key_?material_?base64)$`, t.path) == false
}

named_harmless(t) if t.text == ""
