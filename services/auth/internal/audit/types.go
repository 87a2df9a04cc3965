package audit

// Type of an event. Those that an account's owner would ask about come with
// the account as the subject.
type Type string

// The types.
const (
	Registered  Type = "account.registered"
	RoleGranted Type = "account.role_granted"
	// RegistrationTried is one of an address that has an account.
	RegistrationTried    Type = "account.registration_tried"
	VerificationAsked    Type = "account.verification_asked"
	EmailVerified        Type = "account.email_verified"
	ResetAsked           Type = "account.password_reset_asked"
	PasswordReset        Type = "account.password_reset"
	PasswordChanged      Type = "account.password_changed"
	ProfileUpdated       Type = "account.profile_updated"
	NotificationsUpdated Type = "account.notifications_updated"
	AccountDeleted       Type = "account.deleted"
	Login                Type = "session.login"
	Logout               Type = "session.logout"
	SessionRevoked       Type = "session.revoked"
	SessionsRevoked      Type = "session.all_revoked"
	// RefreshRecovered is a lost answer that was asked for again,
	// RefreshReused a used token that ended its session.
	RefreshRecovered Type = "session.refresh_recovered"
	RefreshReused    Type = "session.refresh_reused"
	APIKeyCreated    Type = "api_key.created"
	APIKeyRevoked    Type = "api_key.revoked"
	APIKeyRefused    Type = "api_key.refused"
	// FactorEnrolled waits to be confirmed; FactorBlocked is too many wrong
	// codes at signing in.
	FactorEnrolled       Type = "factor.enrolled"
	FactorConfirmed      Type = "factor.confirmed"
	FactorDisabled       Type = "factor.disabled"
	FactorBlocked        Type = "factor.blocked"
	RecoveryCodeUsed     Type = "factor.recovery_code_used"
	RecoveryCodesRenewed Type = "factor.recovery_codes_renewed"
	// Reauthenticated is a step-up of a session.
	Reauthenticated Type = "session.reauthenticated"
	RolesSet        Type = "account.roles_set"
	AttributesSet   Type = "account.attributes_set"
	Disabled        Type = "account.disabled"
	Enabled         Type = "account.enabled"
	ServiceCreated  Type = "service_account.created"
	ServiceChanged  Type = "service_account.changed"
	ServiceRotated  Type = "service_account.secret_rotated"
	ServiceDisabled Type = "service_account.disabled"
	ServiceRefused  Type = "service_account.refused"
	JobTriggered    Type = "job.triggered"
	KeyRotated      Type = "signing_key.rotated"
	KeyRevoked      Type = "signing_key.revoked"
	// AccountTakenOver is an account whose address was never verified and
	// which was emptied for who proved to own that.
	AccountTakenOver Type = "account.taken_over"
	IdentityLinked   Type = "identity.linked"
	IdentityUnlinked Type = "identity.unlinked"
	// KeyRewrapped is one whose data key was put under the current
	// key-encryption key.
	KeyRewrapped Type = "signing_key.rewrapped"
)
