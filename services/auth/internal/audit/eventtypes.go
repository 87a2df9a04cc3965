package audit

// Type of an event. Events that concern an account's owner have the account as
// their subject.
type Type string

// The types.
const (
	Registered  Type = "account.registered"
	RoleGranted Type = "account.role_granted"
	// RegistrationTried is a registration of an address that has an account.
	RegistrationTried      Type = "account.registration_tried"
	VerificationRequested  Type = "account.verification_requested"
	EmailVerified          Type = "account.email_verified"
	PasswordResetRequested Type = "account.password_reset_requested"
	PasswordReset          Type = "account.password_reset"
	PasswordChanged        Type = "account.password_changed"
	EmailChangeRequested   Type = "email.change_requested"
	EmailChanged           Type = "email.changed"
	ProfileUpdated         Type = "account.profile_updated"
	AccountDeleted         Type = "account.deleted"
	Login                  Type = "session.login"
	// NewDevice is a sign-in from a device and an address that the account does not know.
	NewDevice       Type = "session.new_device"
	Logout          Type = "session.logout"
	SessionRevoked  Type = "session.revoked"
	SessionsRevoked Type = "session.all_revoked"
	// RefreshRecovered is a refresh token that was used a second time within its
	// grace period, because the response was lost; RefreshReused is one that was
	// reused later, which ends the session.
	RefreshRecovered Type = "session.refresh_recovered"
	RefreshReused    Type = "session.refresh_reused"
	APIKeyCreated    Type = "api_key.created"
	APIKeyRevoked    Type = "api_key.revoked"
	APIKeyRefused    Type = "api_key.refused"
	// SecondFactorEnrolled precedes SecondFactorConfirmed. SecondFactorBlocked
	// follows too many wrong codes at signing in.
	SecondFactorEnrolled  Type = "second_factor.enrolled"
	SecondFactorConfirmed Type = "second_factor.confirmed"
	SecondFactorDisabled  Type = "second_factor.disabled"
	SecondFactorBlocked   Type = "second_factor.blocked"
	RecoveryCodeUsed      Type = "second_factor.recovery_code_used"
	RecoveryCodesRenewed  Type = "second_factor.recovery_codes_renewed"
	// SecondFactorRemovalRequested is an admin's request for an owner who lost the second
	// factor. Either SecondFactorDisabled (REMOVED_BY_ADMIN) follows it after the delay, or
	// SecondFactorRemovalCanceled, whose reason says why.
	SecondFactorRemovalRequested Type = "second_factor.removal_requested"
	SecondFactorRemovalCanceled  Type = "second_factor.removal_canceled"
	// Reauthenticated is a step-up: the user of a session proved a factor again.
	Reauthenticated    Type = "session.reauthenticated"
	RolesSet           Type = "account.roles_set"
	AttributesSet      Type = "account.attributes_set"
	Disabled           Type = "account.disabled"
	Invited            Type = "account.invited"
	InvitationAccepted Type = "account.invitation_accepted"
	// EverythingEnded is an owner who ended all sessions, API keys and tokens at once.
	EverythingEnded        Type = "account.everything_ended"
	Enabled                Type = "account.enabled"
	ServiceAccountCreated  Type = "service_account.created"
	ServiceAccountChanged  Type = "service_account.changed"
	ServiceAccountRotated  Type = "service_account.secret_rotated"
	ServiceAccountDisabled Type = "service_account.disabled"
	ServiceAccountEnabled  Type = "service_account.enabled"
	ServiceAccountRefused  Type = "service_account.refused"
	JobTriggered           Type = "job.triggered"
	KeyRotated             Type = "signing_key.rotated"
	KeyRevoked             Type = "signing_key.revoked"
	// AccountReclaimed is an account whose address was proven for the first time;
	// what had been set up before, perhaps by somebody else, was removed.
	AccountReclaimed Type = "account.reclaimed"
	IdentityLinked   Type = "identity.linked"
	IdentityUnlinked Type = "identity.unlinked"
	// KeyRewrapped is a signing key whose data key was wrapped by the current
	// key-encryption key.
	KeyRewrapped Type = "signing_key.rewrapped"
	// DeletionPlanned is an owner's request to delete their account some time later.
	DeletionPlanned   Type = "account.deletion_planned"
	DeletionCancelled Type = "account.deletion_cancelled"
	// ErasureReported is a service account's report that it has erased the data of all users up to a cursor.
	ErasureReported Type = "erasure.reported"
)
