//! A text for every reason, for operators and for their customers, in English and Korean.

use crate::refusal::Reason;

/// What a reason means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Words {
    /// For operators.
    pub english: &'static str,
    /// The same in Korean.
    pub korean: &'static str,
    /// A sentence to send to the customer. It names no other key, account or member.
    pub to_customer_english: &'static str,
    /// The same in Korean.
    pub to_customer_korean: &'static str,
}

const fn say(
    english: &'static str,
    korean: &'static str,
    to_customer_english: &'static str,
    to_customer_korean: &'static str,
) -> Words {
    Words { english, korean, to_customer_english, to_customer_korean }
}

/// The words for a reason.
pub(crate) fn words(reason: Reason) -> Words {
    match reason {
        Reason::Ok => {
            say("it was let through", "통과했습니다", "Your request is signed correctly.", "요청 서명이 올바릅니다.")
        }
        Reason::MissingCredentials => say(
            "there was no Authorization header",
            "Authorization 헤더가 없었습니다",
            "Your request carried no Authorization header; please sign it and send it again.",
            "요청에 Authorization 헤더가 없습니다. 서명하여 다시 보내 주세요.",
        ),
        Reason::RepeatedCredentials => say(
            "there was more than one Authorization header",
            "Authorization 헤더가 두 개 이상이었습니다",
            "Your request carried more than one Authorization header; please send exactly one.",
            "요청에 Authorization 헤더가 두 개 이상 있습니다. 하나만 보내 주세요.",
        ),
        Reason::MalformedCredentials => say(
            "the Authorization header is malformed",
            "Authorization 헤더의 형식이 맞지 않습니다",
            "Your Authorization header does not have the documented form; please compare it with the example in the API documentation.",
            "Authorization 헤더 형식이 문서와 다릅니다. API 문서의 예제와 비교해 주세요.",
        ),
        Reason::UnsupportedScheme => say(
            "the scheme is not HMAC-SHA256",
            "인증 방식이 HMAC-SHA256이 아닙니다",
            "Please sign your request with the scheme HMAC-SHA256; no other is accepted.",
            "HMAC-SHA256 방식으로 서명해 주세요. 다른 방식은 받지 않습니다.",
        ),
        Reason::UnknownKey => say(
            "there is no such apiKey",
            "등록되지 않은 apiKey입니다",
            "The apiKey in your request is not registered; please check it, upper and lower case included.",
            "요청의 apiKey가 등록되어 있지 않습니다. 대소문자까지 확인해 주세요.",
        ),
        Reason::InactiveKey => say(
            "the key is switched off or has expired",
            "키가 꺼져 있거나 만료되었습니다",
            "Your API key is switched off or has expired; please use an active one.",
            "API 키가 비활성 상태이거나 만료되었습니다. 사용 중인 키로 바꿔 주세요.",
        ),
        Reason::SignatureMismatch => say(
            "the signature was not made with the key's secret",
            "키의 비밀키로 만든 서명이 아닙니다",
            "The signature does not match; please check that you sign date followed by salt with the secret of this very key, without a trailing newline.",
            "서명이 일치하지 않습니다. date 뒤에 salt를 이어 붙인 문자열을 이 키의 비밀키로 서명했는지, 비밀키 끝에 줄바꿈이 없는지 확인해 주세요.",
        ),
        Reason::DateSkewed => say(
            "the date lies outside the window",
            "날짜가 허용 범위를 벗어났습니다",
            "The date in your request is too far from the present time; please check the clock and the time zone of the machine that signs.",
            "요청의 날짜가 현재 시각과 너무 다릅니다. 서명하는 장비의 시계와 시간대를 확인해 주세요.",
        ),
        Reason::BelowFloor => say(
            "the date is older than anything this gateway still admits",
            "게이트웨이가 받을 수 있는 것보다 오래된 날짜입니다",
            "Your request was signed too long ago; please sign a new one.",
            "서명한 지 너무 오래된 요청입니다. 새로 서명해 주세요.",
        ),
        Reason::SaltReused => say(
            "the salt was spent before",
            "이미 쓰인 salt입니다",
            "This signed request was used before; please sign each request anew, with a new salt.",
            "이미 사용된 서명입니다. 요청할 때마다 새 salt로 다시 서명해 주세요.",
        ),
        Reason::RoleInsufficient => say(
            "the key's role may not delete here",
            "키의 역할로는 삭제할 수 없습니다",
            "Your key has no role that may delete segments; please ask the owner of your account for one.",
            "사용하신 키에는 세그먼트를 삭제할 권한이 없습니다. 계정 OWNER에게 권한을 요청해 주세요.",
        ),
        Reason::NotCreator => say(
            "somebody else created the segment, and the role is not OWNER",
            "다른 사람이 만든 세그먼트이고 역할이 OWNER가 아닙니다",
            "Somebody else created this segment; only an OWNER of your account can delete it.",
            "다른 분이 만든 세그먼트입니다. 계정의 OWNER만 삭제할 수 있습니다.",
        ),
        Reason::SegmentNotFound => say(
            "there is no such segment in the caller's account",
            "호출한 계정에 그런 세그먼트가 없습니다",
            "There is no segment with this id in your account; it may have been deleted already.",
            "계정에 해당 ID의 세그먼트가 없습니다. 이미 삭제되었을 수 있습니다.",
        ),
        Reason::RouteNotFound => say(
            "there is no such route",
            "그런 경로가 없습니다",
            "There is no such resource at this address; please check the path of your request.",
            "요청하신 주소에 해당하는 리소스가 없습니다. 경로를 확인해 주세요.",
        ),
        Reason::MethodNotAllowed => say(
            "the path does not support this method",
            "이 경로에 없는 메서드입니다",
            "This address does not support this method; please see the Allow field of the answer.",
            "이 주소에서 쓸 수 없는 메서드입니다. 응답의 Allow 필드를 확인해 주세요.",
        ),
        Reason::MalformedRequest => say(
            "the HTTP message is malformed or ambiguous",
            "메시지 형식이 올바르지 않습니다",
            "Your HTTP request is not well formed; please check the client or the proxy that sends it.",
            "HTTP 요청 형식이 올바르지 않습니다. 보내는 클라이언트나 프록시를 확인해 주세요.",
        ),
        Reason::LoopDetected => say(
            "the message has passed this gateway before: a proxy or an upstream leads back to it",
            "이 게이트웨이를 이미 지나간 메시지입니다. 프록시나 업스트림이 자신을 가리킵니다",
            "Your request ran in a loop on our side; we are looking into it.",
            "요청이 저희 쪽에서 순환했습니다. 확인하고 있습니다.",
        ),
        Reason::TooLarge => say(
            "the message exceeds a limit",
            "메시지가 제한보다 큽니다",
            "Your request is too large; a deletion needs no large headers and no large body.",
            "요청이 허용 크기를 넘습니다. 삭제 요청에는 큰 헤더나 본문이 필요하지 않습니다.",
        ),
        Reason::TooSlow => say(
            "the message did not arrive in time",
            "메시지가 제때 도착하지 않았습니다",
            "Your request did not arrive in time; please check the network and send a newly signed one.",
            "요청이 제시간에 도착하지 않았습니다. 네트워크를 확인하고 새로 서명하여 보내 주세요.",
        ),
        Reason::PreconditionFailed => say(
            "the request's own condition (If-Match) does not match the version that was checked",
            "요청의 조건(If-Match)이 판정한 버전과 일치하지 않습니다",
            "The segment is not the version that your If-Match names, or your condition cannot be checked; nothing was deleted. Please read the segment again and sign a new request, with its ETag or without a condition.",
            "세그먼트가 If-Match에 적힌 버전이 아니거나 조건을 확인할 수 없어 아무것도 삭제되지 않았습니다. 세그먼트를 다시 조회한 뒤 그 ETag를 쓰거나 조건 없이 새로 서명하여 보내 주세요.",
        ),
        Reason::AutomationsLinked => say(
            "automations are linked to the segment, and the caller did not confirm them",
            "세그먼트에 연결된 자동화가 있고 확인을 받지 않았습니다",
            "Automations are linked to this segment and would stop; to delete it all the same, send a newly signed request with the X-Saltgate-Confirm value from the answer.",
            "이 세그먼트에 연결된 자동화가 있어 삭제하면 중단됩니다. 그래도 삭제하려면 응답의 confirm 값을 X-Saltgate-Confirm 헤더에 넣고 새로 서명하여 보내 주세요.",
        ),
        Reason::Frozen => say(
            "the key, the account or everything is frozen",
            "키, 계정 또는 전체 삭제가 동결되어 있습니다",
            "Deletions are paused at the moment; nothing was deleted, and we will tell you when they are possible again.",
            "현재 삭제가 일시 중지되어 있습니다. 삭제된 것은 없으며 다시 가능해지면 알려 드리겠습니다.",
        ),
        Reason::BudgetSpent => say(
            "the key or the account has used up its deletion budget",
            "키 또는 계정의 삭제 한도를 다 썼습니다",
            "You have reached the limit of deletions; please wait as long as the errorMessage of the answer says, and sign a new request.",
            "삭제 한도에 도달했습니다. 응답의 errorMessage에 적힌 시간이 지난 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::Throttled => say(
            "too many requests",
            "요청이 너무 많습니다",
            "You sent too many requests in a short time; please wait as long as the answer says (Retry-After or errorMessage), and sign a new request.",
            "짧은 시간에 요청이 너무 많습니다. 응답(Retry-After 또는 errorMessage)에 적힌 시간이 지난 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::Overloaded => say(
            "too many requests are in flight",
            "처리 중인 요청이 너무 많습니다",
            "The service is busy; please try again in a moment.",
            "서비스가 혼잡합니다. 잠시 뒤 다시 시도해 주세요.",
        ),
        Reason::Fenced => say(
            "the gateway has just started and does not know which salts were spent before",
            "게이트웨이가 새로 시작하여 이전에 쓰인 salt를 모릅니다",
            "The service is starting; please wait as long as the errorMessage of the answer says, and sign a new request.",
            "서비스가 시작하는 중입니다. 응답의 errorMessage에 적힌 시간이 지난 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::KeysUnavailable => say(
            "the database of the keys has not confirmed them for longer than max_stale, or they have not been read yet",
            "키 데이터베이스가 max_stale보다 오래 키를 확인해 주지 않았거나, 아직 키를 읽지 못했습니다",
            "A part of the service cannot be reached; nothing was deleted, please send a newly signed request in a few minutes.",
            "서비스 일부에 연결할 수 없습니다. 삭제된 것은 없으니 몇 분 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::ReplayFull => say(
            "the store of spent salts is full",
            "쓰인 salt를 기억할 공간이 가득 찼습니다",
            "The service is busy; nothing was deleted, please send a newly signed request in a few minutes.",
            "서비스가 혼잡합니다. 삭제된 것은 없으니 몇 분 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::ReplayUnavailable => say(
            "the store of spent salts cannot be reached",
            "쓰인 salt의 저장소에 닿을 수 없습니다",
            "A part of the service cannot be reached; nothing was deleted, please send a newly signed request in a few minutes.",
            "서비스 일부에 연결할 수 없습니다. 삭제된 것은 없으니 몇 분 뒤 새로 서명하여 보내 주세요.",
        ),
        Reason::RecordUnavailable => say(
            "the record cannot be written",
            "기록을 쓸 수 없습니다",
            "A part of the service is out of order; nothing was deleted, please send a newly signed request later.",
            "서비스 일부에 문제가 있습니다. 삭제된 것은 없으니 나중에 새로 서명하여 보내 주세요.",
        ),
        Reason::OwnershipUnavailable => say(
            "the service or its database did not say whose segment it is, or what is linked to it",
            "서비스나 그 데이터베이스가 세그먼트의 소유자나 연결된 자동화를 알려 주지 않았습니다",
            "The service behind the gateway did not answer; nothing was deleted, please send a newly signed request later.",
            "게이트웨이 뒤의 서비스가 응답하지 않았습니다. 삭제된 것은 없으니 나중에 새로 서명하여 보내 주세요.",
        ),
        Reason::UpstreamUnreachable => say(
            "the service cannot be reached; nothing was sent",
            "서비스에 연결할 수 없어 보내지 않았습니다",
            "The service could not be reached; nothing was deleted, please send a newly signed request later.",
            "서비스에 연결할 수 없었습니다. 삭제된 것은 없으니 나중에 새로 서명하여 보내 주세요.",
        ),
        Reason::UpstreamTimeout => say(
            "the service did not accept the connection in time; nothing was sent",
            "서비스가 제때 연결을 받지 않아 보내지 않았습니다",
            "The service did not answer in time; nothing was deleted, please send a newly signed request later.",
            "서비스가 제시간에 응답하지 않았습니다. 삭제된 것은 없으니 나중에 새로 서명하여 보내 주세요.",
        ),
        Reason::OutcomeUnknown => say(
            "the deletion was sent and its answer was lost: it may have happened",
            "보냈으나 응답을 받지 못해 삭제되었을 수 있습니다",
            "The deletion was sent and its answer was lost; please check whether the segment still exists before you try again.",
            "삭제 요청은 전달되었으나 응답을 받지 못했습니다. 다시 시도하기 전에 세그먼트가 남아 있는지 확인해 주세요.",
        ),
        Reason::ClientGone => say(
            "the client closed the connection",
            "클라이언트가 연결을 끊었습니다",
            "Your client closed the connection before the answer; please check its timeout.",
            "응답 전에 클라이언트가 연결을 끊었습니다. 클라이언트의 제한 시간을 확인해 주세요.",
        ),
        Reason::InternalError => say(
            "a part of the gateway failed",
            "게이트웨이 내부 오류입니다",
            "Something failed on our side; nothing was deleted unless the answer says otherwise, and we are looking into it.",
            "저희 쪽에서 오류가 났습니다. 응답에 다른 안내가 없다면 삭제된 것은 없으며 확인하고 있습니다.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words_of_its_own_in_both_languages() {
        let mut seen = std::collections::HashSet::new();
        for &reason in Reason::ALL {
            let Words { english, korean, to_customer_english, to_customer_korean } = words(reason);
            let is_korean = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
            assert!(is_korean(korean) && is_korean(to_customer_korean), "{reason:?}");
            assert!(!is_korean(english) && to_customer_english.is_ascii(), "{reason:?}");
            assert!(to_customer_english.ends_with('.') && to_customer_korean.ends_with('.'), "{reason:?}");
            // An answer to a header that will not be valid again has no `Retry-After`, so the text must mention
            // errorMessage, too.
            for to_customer in [to_customer_english, to_customer_korean] {
                assert!(!to_customer.contains("Retry-After") || to_customer.contains("errorMessage"), "{reason:?}");
            }
            assert!(seen.insert(english) && seen.insert(korean), "{reason:?}");
        }
    }
}
